// Shows on the nodes for long videos what their settings mean, as they change: segments, model calls, memory; in red
// what will be refused. The server works it out, so that there is one truth; see nodes/live_plan.py. It answers in the
// language of the front end (nodes/plan_words.py).
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const NODES = ["SkyReelsV2LongVideo", "SkyReelsV2ExtendVideo", "SkyReelsV2Plan"]
const PAUSE_MS = 250 // after the last change
const HEIGHT = 106 // pixels: five lines
const LANGUAGE = "Comfy.Locale"

function show(element, answer) {
    element.textContent = answer.text
    element.style.color = answer.ok ? "var(--fg-color, #ddd)" : "#ff7b72"
    element.style.borderColor = answer.ok ? "transparent" : "#ff7b72"
    element.dataset.ok = answer.ok
}

async function ask(node, element) {
    const values = Object.fromEntries(node.widgets.map((widget) => [widget.name, widget.value]))
    delete values.live_plan
    values.linked = (node.inputs ?? []).filter((input) => input.widget && input.link != null).map((input) => input.name)
    values.connected = (node.inputs ?? []).filter((input) => input.link != null).map((input) => input.name)
    values.language = app.extensionManager?.setting?.get(LANGUAGE) ?? "en"
    const response = await api.fetchApi("/skyreels_v2/plan", { method: "POST", body: JSON.stringify(values) })
    if (response.ok) show(element, await response.json())
}

function after(target, name, action) {
    const before = target[name]
    target[name] = function (...given) {
        const result = before?.apply(this, given)
        action()
        return result
    }
}

app.registerExtension({
    name: "SkyReelsV2.LivePlan",
    nodeCreated(node) {
        if (!NODES.includes(node.comfyClass)) return
        const element = document.createElement("div")
        element.className = "skyreels-v2-plan"
        Object.assign(element.style, {
            whiteSpace: "pre-wrap", overflow: "auto", font: "11px sans-serif", lineHeight: "1.35", padding: "4px 8px",
            border: "1px solid transparent", borderRadius: "4px", boxSizing: "border-box",
        })
        let timer = null
        const changed = () => {
            clearTimeout(timer)
            timer = setTimeout(() => ask(node, element), PAUSE_MS)
        }
        for (const widget of node.widgets) after(widget, "callback", changed)
        for (const event of ["onConfigure", "onConnectionsChange"]) after(node, event, changed)
        app.ui.settings.addEventListener?.(`${LANGUAGE}.change`, changed)
        after(node, "onRemoved", () => app.ui.settings.removeEventListener?.(`${LANGUAGE}.change`, changed))
        const widget = node.addDOMWidget("live_plan", "text", element, {
            serialize: false, hideOnZoom: false, getValue: () => "", setValue: () => {},
            getMinHeight: () => HEIGHT, getMaxHeight: () => HEIGHT,
        })
        widget.serialize = false // neither into the prompt nor into the saved workflow
        changed()
    },
})
