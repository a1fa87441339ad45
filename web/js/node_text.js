// Shows on our nodes the text that their last run returned (`ui.PreviewText`), which the front end itself does not show.
import { app } from "../../../scripts/app.js"
import { addPanel, after, fit } from "./panel.js"

const HEIGHT = 150 // pixels: nine lines

app.registerExtension({
    name: "SkyReelsV2.NodeText",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("SkyReelsV2")) return
        let show = null // the panel comes with the first text
        after(node, "onExecuted", (output) => {
            if (!output?.text) return
            if (show === null) {
                show = addPanel(node, "node_text", HEIGHT)
                fit(node)
            }
            show([output.text].flat().join("\n"))
        })
    },
})
