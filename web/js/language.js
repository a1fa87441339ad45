// Tells the server the language of this front end, so that errors and progress speak it; see wan_core/comfy/language.py.
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const LANGUAGE = "Comfy.Locale"
const ROUTE = "/skyreels_v2/language"
let told = "" // client and language that the server knows

async function tell() {
    const client = api.clientId ?? api.initialClientId
    const language = app.extensionManager?.setting?.get(LANGUAGE) ?? "en"
    if (!client || told === `${client} ${language}`) return
    told = `${client} ${language}`
    const response = await api.fetchApi(ROUTE, { method: "POST", body: JSON.stringify({ client, language }) }).catch(() => null)
    if (!response?.ok) told = ""
}

app.registerExtension({
    name: "SkyReelsV2.Language",
    async setup() {
        api.addEventListener("status", tell) // the first one comes with the client's id, later ones with every run
        api.addEventListener("reconnected", () => {
            told = "" // the server may have been restarted
            tell()
        })
        app.ui.settings.addEventListener?.(`${LANGUAGE}.change`, tell)
        await tell()
    },
})
