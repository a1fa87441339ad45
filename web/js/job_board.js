// Shows on SkyReels-V2 Jobs the long videos on the disk, each with its first frame, and lets a person queue one again or
// delete it; the server says what there is, in the language of the front end. See nodes/job_board.py.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"
import { GROWING, addBox, after } from "./panel.js"

const NODE = "SkyReelsV2Jobs"
const ROUTE = "/skyreels_v2/jobs"
const HEIGHT = 220 // pixels: three jobs
const WIDTH = 380
const SURE_MS = 4000 // in which a second click deletes

const language = () => app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"
const address = (name, what) => `${ROUTE}/${encodeURIComponent(name)}${what}`

/** Return a new element with a style. */
function make(kind, style, text = "") {
    const element = document.createElement(kind)
    element.textContent = text
    Object.assign(element.style, style)
    return element
}

/** Return a button that looks like the theme's. */
function button(text, action) {
    const element = make("button", {
        font: "inherit", cursor: "pointer", padding: "2px 8px", borderRadius: "4px",
        color: "var(--input-text, #ddd)", background: "var(--comfy-input-bg, #222)",
        border: "1px solid var(--border-color, #4e4e4e)",
    }, text)
    element.onclick = action
    return element
}

/** Return the row of a job. */
function row(job, labels, refresh) {
    const line = make("div", { display: "flex", gap: "8px", alignItems: "center", padding: "4px 0" })
    line.className = "skyreels-v2-job"
    const picture = make("img", { width: "64px", height: "48px", objectFit: "contain", flex: "none", background: "#000" })
    picture.alt = ""
    picture.src = api.apiURL(address(job.name, "/picture"))
    picture.onerror = () => (picture.style.visibility = "hidden")
    const about = make("div", { flex: "1 1 auto", minWidth: "0" })
    about.append(make("div", { overflowWrap: "anywhere" }, job.name), make("div", { opacity: "0.75" }, job.about))
    const said = make("div", {})
    about.append(said)
    const resume = button(labels.resume, async () => {
        const response = await api.fetchApi(address(job.name, "/workflow")).catch(() => null)
        if (!response?.ok) return (said.textContent = labels.unkept)
        const { prompt, workflow } = await response.json()
        const error = await api.queuePrompt(0, { output: prompt, workflow }).then(() => "", (reason) => String(reason))
        said.textContent = error || labels.queued
    })
    resume.disabled = !job.resumable
    resume.title = job.resumable ? "" : labels.unkept
    resume.style.opacity = job.resumable ? "1" : "0.5"
    resume.hidden = job.complete || job.at_work
    const remove = button(labels.delete, async () => {
        if (remove.textContent === labels.delete) {
            remove.textContent = labels.sure
            return setTimeout(() => (remove.textContent = labels.delete), SURE_MS)
        }
        const response = await api
            .fetchApi(`${address(job.name, "")}?language=${language()}`, { method: "DELETE" })
            .catch(() => null)
        if (response?.ok) return refresh()
        said.textContent = (await response?.json().catch(() => null))?.error ?? ""
    })
    remove.hidden = job.at_work
    const buttons = make("div", { display: "flex", flexDirection: "column", gap: "4px", flex: "none" })
    buttons.append(resume, remove)
    line.append(picture, about, buttons)
    return line
}

app.registerExtension({
    name: "SkyReelsV2.JobBoard",
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return
        const box = addBox(node, "job_board", HEIGHT)
        node.setSize([Math.max(WIDTH, node.size[0]), Math.max(node.computeSize()[1], node.size[1])])
        const refresh = async () => {
            const response = await api.fetchApi(`${ROUTE}?language=${language()}`).catch(() => null)
            if (!response?.ok) return
            const { jobs, labels } = await response.json()
            box.replaceChildren(...(jobs.length ? jobs.map((job) => row(job, labels, refresh)) : [labels.none]))
        }
        // whatever begins, grows, ends or stops may have changed a job
        const ends = ["execution_success", "execution_error", "execution_interrupted"]
        const events = ["execution_start", GROWING, ...ends]
        after(node, "onAdded", () => {
            events.forEach((name) => api.addEventListener(name, refresh))
            refresh()
        })
        after(node, "onRemoved", () => events.forEach((name) => api.removeEventListener(name, refresh)))
        after(node, "onExecuted", refresh)
    },
})
