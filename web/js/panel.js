// A widget that shows text and is neither edited nor saved, in classic nodes and in Nodes 2.0.
// Its type is one of our own: the front end draws a widget of a type that it knows (such as "text") with a component of
// its own in Nodes 2.0, and our element never gets there.
const TYPE = "skyreels_v2_panel"
const MARGIN = 10 // pixels that classic nodes leave around the element
const TEXT = "var(--fg-color, #ddd)"
// mixed with the theme's own text colour, so that it can be read on a dark and on a light theme
const REFUSAL = `color-mix(in srgb, #e5484d 55%, ${TEXT})`

/** The server's event that there is more to see of a long video. */
export const GROWING = "skyreels_v2.growing"

/** Add a box to a node; `height` is its own in pixels. Returns its element. */
export function addBox(node, name, height) {
    const element = document.createElement("div")
    element.className = `skyreels-v2-${name.replaceAll("_", "-")}`
    element.tabIndex = -1 // a click gives it the focus, and then the wheel scrolls it
    element.dataset.captureWheel = "true"
    Object.assign(element.style, {
        whiteSpace: "pre-wrap", overflow: "auto", overflowWrap: "anywhere", userSelect: "text", outline: "none",
        font: "11px sans-serif", lineHeight: "1.35", padding: "4px 8px", boxSizing: "border-box",
        border: "1px solid transparent", borderRadius: "4px", minHeight: `${height}px`, maxHeight: `${height}px`,
    })
    const outer = height + 2 * MARGIN
    const widget = node.addDOMWidget(name, TYPE, element, {
        serialize: false, hideOnZoom: false, margin: MARGIN, getValue: () => "", setValue: () => {},
        getMinHeight: () => outer, getMaxHeight: () => outer,
    })
    widget.serialize = false // neither into the prompt nor into the saved workflow
    return element
}

/** Add a panel to a node; `height` is that of its text box in pixels. Returns what shows a text in it. */
export function addPanel(node, name, height) {
    const element = addBox(node, name, height)
    return (text, refused = false) => {
        element.textContent = text
        element.style.color = refused ? REFUSAL : TEXT
        element.style.borderColor = refused ? REFUSAL : "transparent"
        element.dataset.ok = !refused
    }
}

/** Make a node as large as its widgets need. In Nodes 2.0 the front end does it, which folds advanced inputs away. */
export function fit(node) {
    const [width, height] = node.computeSize()
    const high = LiteGraph.vueNodesMode ? 0 : Math.max(height, node.size[1])
    node.setSize([Math.max(width, node.size[0]), high])
}

/** Run `action` after a node's method, which may not be there yet. */
export function after(node, method, action) {
    const before = node[method]
    node[method] = function (...given) {
        const result = before?.apply(this, given)
        action(...given)
        return result
    }
}
