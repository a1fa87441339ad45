"""HDR and wide-gamut pictures as ordinary video shows them. Numbers only: no files, no PyAV.

Source: SMPTE ST 2084 (PQ); ITU-R BT.2100 (HLG and its gamma of 1.2 on a screen of 1000 cd/m2), BT.2087 (primaries),
BT.2408 (diffuse white is at 203 cd/m2, which is 58 % of PQ and 75 % of HLG), BT.1886 (the gamma of 2.4 of SDR).
"""

from __future__ import annotations

import numpy as np

PQ, HLG = 16, 18  # transfer functions, by the numbers of ITU-T H.273
WHITE, PEAK = 203.0, 1000.0  # cd/m2
GAMMA = 2.4
KNEE = 0.5  # of diffuse white: what is darker keeps its light, what is brighter is rolled off up to the peak
LEVELS = 1 << 14  # entries of a table of light: a quarter of PQ's twelfth bit
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # from light in BT.2020's primaries


def to_sdr(coded: np.ndarray, transfer: int) -> np.ndarray:
    """Return a picture in BT.2020's primaries as BT.709.

    Args:
        coded: RGB [H, W, 3], 0..1 of the code's range.
        transfer: PQ, HLG, or another for SDR.

    Returns:
        uint8 [H, W, 3].
    """
    light = _light(coded, transfer) @ TO_BT709.T
    if transfer in (PQ, HLG):
        brightest = light.max(axis=2, keepdims=True)
        light *= _rolled_off(brightest) / np.maximum(brightest, 1e-6)
    return (255 * np.clip(light, 0, 1) ** (1 / GAMMA)).round().astype(np.uint8)


def _light(coded: np.ndarray, transfer: int) -> np.ndarray:
    """Return the light of a screen, 1 = diffuse white, as float32."""
    levels = np.linspace(0, 1, LEVELS)
    entries = (coded * (LEVELS - 1)).round().astype(np.int32)
    if transfer == PQ:
        return (_pq(levels) / WHITE).astype(np.float32)[entries]
    if transfer == HLG:
        scene = _hlg(levels).astype(np.float32)[entries]
        return scene * (scene @ LUMA)[..., None] ** 0.2 * np.float32(PEAK / WHITE)
    return (levels**GAMMA).astype(np.float32)[entries]


def _pq(code: np.ndarray) -> np.ndarray:
    """Return cd/m2."""
    power = code ** (32 / 2523)
    return 10_000 * (np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)


def _hlg(code: np.ndarray) -> np.ndarray:
    """Return the light of the scene, 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _rolled_off(light: np.ndarray) -> np.ndarray:
    """Return light as it is up to the knee, and what is brighter bent so that the peak is 1 (extended Reinhard)."""
    above, most = (np.maximum(each - KNEE, 0) / (1 - KNEE) for each in (light, PEAK / WHITE))
    bent = KNEE + (1 - KNEE) * above * (1 + above / most**2) / (1 + above)
    return np.minimum(np.where(light <= KNEE, light, bent), 1)
