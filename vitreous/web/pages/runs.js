// Models that are runs: the way to the page of their training, and their newest weights.
import {followJob, getJson, post} from "./api.js";
import {at} from "./dom.js";
import {toast, withBusy} from "./notices.js";

export function addRuns(explorer) {
  const {runs, models} = explorer.start, known = new Set(models.map(({weights}) => weights)), button = at("reload-model");
  if (!runs.length) return;
  at("pages").hidden = at("reload").hidden = false;
  const runOf = () => runs.findIndex(({model}) => model === explorer.view.model);
  const show = () => {
    const run = runs[runOf()];
    at("reload").classList.toggle("waiting", !run);
    if (run) at("model-step").textContent = at("model-step").title = [run.loaded_step !== null && `weights of step ${run.loaded_step.toLocaleString("en")}`,
      explorer.pane.isOld && "what is dimmed is of older ones"].filter(Boolean).join("; ");
  };
  for (const event of ["model", "pane", "view", "weights"]) explorer.on(event, show);
  // Somebody may load newer weights, for everybody: seen when a person comes back, or by a result.
  const look = async () => {
    const now = await getJson("/api/start").catch(() => null), wasOld = explorer.pane.isOld;
    if (!now) return;
    models.forEach((model, i) => { model.weights = now.models[i]?.weights; });
    runs.forEach((run, i) => Object.assign(run, now.runs[i]));
    explorer.emit("weights");
    if (explorer.pane.isOld && !wasOld) toast("Newer weights of this model are loaded: what the old ones gave is dimmed");
  };
  document.addEventListener("visibilitychange", () => document.hidden || look());
  explorer.on("map", ({observed, pane: {maps}}) => {
    const {weights} = maps.shown ?? observed;
    if (!known.has(weights)) look();
    known.add(weights);
  });
  button.addEventListener("click", () => withBusy("loading the checkpoint", async signal => {
    await followJob((await post(`/api/runs/${runOf()}/model`)).job, {signal});
    location.reload(); // the link restores the view, and everything is computed again
  }));
  show();
  addEventListener("pagehide", () => sessionStorage.setItem("explorer-view", location.hash));
}
