// Shows on the nodes for long videos what their settings mean, as they change: segments, model calls, memory; in red
// what will be refused. The server works it out, so that there is one truth; see nodes/live_plan.py. It answers in the
// language of the front end.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"
import { comesFromOutside } from "./links.js"
import { addPanel, after, fit } from "./panel.js"

const NODES = ["SkyReelsV2LongVideo", "SkyReelsV2ExtendVideo", "SkyReelsV2Plan"]
const NAME = "live_plan"
const STEP_CACHE = "SkyReelsV2StepCache"
const PERIOD_MS = 250
const WIDTH = 360 // pixels: of a new node, so that
const HEIGHT = 86 // five lines hold a plan

/** Return the widget values of a step cache on the way from a node to its model; undefined where there is none, or
 * where one of them comes over a link and is not known before the run. */
function stepCache(node) {
    const passed = new Set()
    for (let at = node; at && !passed.has(at); ) {
        passed.add(at)
        const slot = at.type === "Reroute" ? 0 : (at.inputs ?? []).findIndex((input) => input.name === "model")
        at = slot < 0 ? null : sourceOf(at, slot)
        if (at?.comfyClass !== STEP_CACHE || at.mode !== LiteGraph.ALWAYS) continue
        return linked(at).length ? undefined : values(at)
    }
}

/** Return the node that an input is linked to, through the walls of subgraphs; null where there is none, or where it
 * differs between the places at which a subgraph stands. */
function sourceOf(node, slot) {
    const { graph } = node
    const link = graph?.getLink?.(node.inputs?.[slot]?.link)
    if (!link) return null
    if (!comesFromOutside(link)) return insideOf(graph.getNodeById(link.origin_id), link.origin_slot)
    const root = graph.rootGraph ?? app.graph
    const graphs = [root, ...(root.subgraphs?.values() ?? [])]
    const holders = graphs.flatMap(({ nodes }) => nodes).filter(({ subgraph }) => subgraph === graph)
    return holders.length === 1 ? sourceOf(holders[0], link.origin_slot) : null
}

/** Return the node that makes an output: where a node is a subgraph, the one inside. */
function insideOf(node, output) {
    if (!node?.subgraph) return node
    const link = node.subgraph.getLink(node.subgraph.outputs[output]?.linkIds[0])
    return link ? insideOf(node.subgraph.getNodeById(link.origin_id), link.origin_slot) : null
}

/** Return the names of a node's widgets whose value comes over a link. */
function linked(node) {
    return (node.inputs ?? []).filter((input) => input.widget && input.link != null).map((input) => input.name)
}

/** Return a node's widget values by name. */
function values(node) {
    return Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget.value]))
}

/** Return what the server has to know: the values of the widgets, which of them are linked, the language. */
function question(node) {
    const known = values(node)
    delete known[NAME]
    known.linked = linked(node)
    known.connected = (node.inputs ?? []).filter((input) => input.link != null).map((input) => input.name)
    known.step_cache = stepCache(node)
    known.language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"
    return JSON.stringify(known)
}

app.registerExtension({
    name: "SkyReelsV2.LivePlan",
    nodeCreated(node) {
        if (!NODES.includes(node.comfyClass)) return
        const show = addPanel(node, NAME, HEIGHT)
        let seen = "" // a moment ago
        let asked = ""
        // Looked at again and again: which callbacks and events tell of a change differs with the front end's version
        // and the style of the nodes, and some changes (undo, a seed after a run, a widget that comes and goes) tell of
        // none.
        const look = async () => {
            if (!LiteGraph.vueNodesMode && node.size[1] < node.computeSize()[1]) fit(node)
            const now = question(node)
            const settled = now === seen
            seen = now
            if (!settled || now === asked) return
            asked = now
            const response = await api.fetchApi("/skyreels_v2/plan", { method: "POST", body: now }).catch(() => null)
            if (now !== asked) return // another question is on its way
            if (!response?.ok) return
            const answer = await response.json()
            show(answer.text, !answer.ok)
        }
        let timer = null
        const start = () => (timer ??= setInterval(look, PERIOD_MS))
        const stop = () => (timer = clearInterval(timer) ?? null)
        node.size[0] = Math.max(node.size[0], WIDTH)
        fit(node)
        after(node, "onConfigure", () => fit(node)) // it may have been saved with the height of the other style
        after(node, "onAdded", start)
        after(node, "onRemoved", stop)
    },
    loadedGraphNode(node) {
        if (NODES.includes(node.comfyClass)) fit(node) // the front end has made it as high as all inputs need
    },
})
