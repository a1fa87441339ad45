// Plays on the nodes for long videos what is finished while the rest is made, and the whole video in the end; after a
// stop it says what is kept. The server tells what there is after each segment; see `growing` in wan_core/comfy/long/long_video.py.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"
import { GROWING, addBox, fit } from "./panel.js"

const NODES = ["SkyReelsV2LongVideo", "SkyReelsV2ExtendVideo"]
const HEIGHT = 220 // pixels

/** Return the address of a file in the host's output folder. */
function address({ folder, versions }, file) {
    const query = new URLSearchParams({ filename: file, subfolder: folder, type: "output", version: versions[file] })
    return api.apiURL(`/view?${query}`)
}

/** Return the node that an id of a run such as "5:3" names, and before it the nodes of the subgraphs that it lies in. */
function nodesAt(id) {
    const nodes = []
    let graph = app.rootGraph ?? app.graph
    for (const part of String(id).split(":")) {
        const node = graph?._nodes?.find((each) => String(each.id) === part)
        if (!node) return []
        nodes.push(node)
        graph = node.subgraph
    }
    return NODES.includes(nodes.at(-1).comfyClass) ? nodes : []
}

/** Return what shows a job on a node: its finished parts as one film, and a line under it. */
function player(node) {
    const box = addBox(node, "growing", HEIGHT)
    const video = Object.assign(document.createElement("video"), { muted: true, controls: true, playsInline: true })
    Object.assign(video.style, { width: "100%", height: `${HEIGHT - 34}px`, objectFit: "contain", background: "#000" })
    const line = document.createElement("div")
    box.append(video, line)
    let job = { files: [] }
    const play = (file) => {
        video.dataset.part = file
        video.src = address(job, file)
        video.play().catch(() => {}) // a page that nobody has clicked on may not play
    }
    // the one behind it, or the first: also where the last was played, or is no longer among those that are told of
    video.onended = () => job.files.length && play(job.files[job.files.indexOf(video.dataset.part) + 1] ?? job.files[0])
    video.onerror = () => (video.hidden = true) // a codec that browsers don't play
    video.onloadeddata = () => (video.hidden = false)
    return (now) => {
        const begins = !job.files.length || now.complete || now.folder !== job.folder
        job = now
        line.textContent = now.about
        if (job.files.length && begins) play(job.files[0])
    }
}

app.registerExtension({
    name: "SkyReelsV2.Growing",
    setup() {
        const shown = new Map() // of a node: what shows its job, and the last that was told of it
        api.addEventListener(GROWING, ({ detail }) => {
            for (const node of nodesAt(detail.node)) {
                if (!shown.has(node)) {
                    shown.set(node, { show: player(node) })
                    fit(node)
                }
                const entry = shown.get(node)
                entry.told = detail
                entry.show(detail)
            }
        })
        const stopped = () => {
            for (const entry of shown.values()) {
                if (entry.told.complete || !entry.told.stopped) continue
                entry.show({ ...entry.told, about: entry.told.stopped })
            }
        }
        for (const name of ["execution_interrupted", "execution_error"]) api.addEventListener(name, stopped)
    },
})
