// Workflows that were saved with nodes whose inputs have moved since: puts their values where the nodes have them now,
// before the front end reads them. moved_inputs.json says what has moved; nodes/moved_inputs.py does it for API prompts.
import { app } from "../../../scripts/app.js"
import { comesFromOutside } from "./links.js"

const table = await (await fetch(new URL("moved_inputs.json", import.meta.url), { cache: "no-cache" })).json()

// Front end 1.42 keeps the values of a subgraph's inputs inside of it, 1.49 outside.
const OUTSIDE_CHOOSES = Number(String(window.__COMFYUI_FRONTEND_VERSION__).split(".")[1]) >= 49

/** Return a node as it was saved with its inputs in their places, and the links whose input has none. */
function migrated(saved, { widgets, inside }, graph) {
    const names = Object.keys(widgets)
    const homes = new Map() // of an input that moved: [the input that it is inside of now, the option that has it]
    for (const [parent, options] of Object.entries(inside))
        for (const [option, inner] of Object.entries(options)) for (const name of inner) homes.set(name, [parent, option])

    const values = Array.isArray(saved.widgets_values) ? saved.widgets_values : []
    const slots = saved.inputs ?? []
    const fits = values.length === names.length && names.every((name, at) => typeof values[at] === widgets[name])
    if (!fits && !slots.some((slot) => homes.has(slot.name))) return [saved, []]

    const named = saved.widgets_values_named
    const chosen = { ...Object.fromEntries(values.map((value, at) => [names[at], value])), ...named }
    // what a subgraph shows on its outside has to be there, whatever is chosen inside: the outside chooses
    for (const { name, link } of slots)
        if (OUTSIDE_CHOOSES && homes.has(name) && comesFromOutside(graph?.getLink?.(link)))
            chosen[homes.get(name)[0]] = homes.get(name)[1]
    const place = (name) => {
        if (!homes.has(name)) return name
        const [parent, option] = homes.get(name)
        return chosen[parent] === option ? `${parent}.${name}` : null
    }
    const moved = (slot) => {
        const name = place(slot.name)
        return name === slot.name ? slot : { ...slot, name, ...(slot.widget && { widget: { ...slot.widget, name } }) }
    }
    const now = { ...saved, inputs: slots.filter((slot) => place(slot.name)).map(moved) }
    if (values.length) now.widgets_values = names.slice(0, values.length).filter(place).map((name) => chosen[name])
    if (named) now.widgets_values_named = Object.fromEntries(
        Object.keys(named).filter(place).map((name) => [place(name), chosen[name]]))
    return [now, slots.filter((slot) => !place(slot.name) && slot.link != null).map((slot) => slot.link)]
}

// Takes links away whose input is gone: a width that was linked, but not used since the size was a preset.
function unlink(graph, links) {
    for (const id of links) {
        const link = graph?.getLink?.(id)
        const output = link && graph.getNodeById(link.origin_id)?.outputs?.[link.origin_slot]
        if (output?.links) output.links = output.links.filter((other) => other !== id)
        graph?._links?.delete(id)
    }
}

// Front end 1.42 shows in Nodes 2.0 what such a choice was when the node was made: its value is set past what is shown.
function showChoice(widget) {
    let type = widget && Object.getPrototypeOf(widget)
    while (type && !Object.hasOwn(type, "value")) type = Object.getPrototypeOf(type)
    if (type) Object.getOwnPropertyDescriptor(type, "value").set?.call(widget, widget.value)
}

app.registerExtension({
    name: "SkyReelsV2.MovedInputs",
    beforeRegisterNodeDef(nodeType, nodeData) {
        const moved = table[nodeData.name]
        if (!moved) return
        const configure = nodeType.prototype.configure
        nodeType.prototype.configure = function (saved) {
            const [now, links] = migrated(saved, moved, this.graph)
            const result = configure.call(this, now)
            for (const name of Object.keys(moved.inside)) showChoice(this.widgets?.find((widget) => widget.name === name))
            if (links.length) queueMicrotask(() => unlink(this.graph, links))
            return result
        }
    },
})
