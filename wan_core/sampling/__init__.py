"""From noise to a latent clip: schedule, noise levels, solvers, loop, caches."""
