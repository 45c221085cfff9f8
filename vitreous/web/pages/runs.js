// Models that are runs: the way to the page of their training, and their newest weights.
import {followJob, post} from "./api.js";
import {at} from "./dom.js";
import {withBusy} from "./notices.js";

export function addRuns(explorer) {
  const {runs} = explorer.start, button = at("reload-model");
  if (!runs.length) return;
  at("pages").hidden = false;
  const runOf = () => runs.findIndex(({model}) => model === explorer.view.model);
  const show = () => {
    const run = runs[runOf()];
    at("reload").hidden = !run;
    at("model-step").textContent = run && run.loaded_step !== null ? `weights of step ${run.loaded_step.toLocaleString("en")}` : "";
  };
  for (const event of ["model", "pane", "view"]) explorer.on(event, show);
  button.addEventListener("click", () => withBusy("loading the checkpoint", async signal => {
    await followJob((await post(`/api/runs/${runOf()}/model`)).job, {signal});
    location.reload(); // the link restores the view, and everything is computed again
  }));
  show();
  addEventListener("pagehide", () => sessionStorage.setItem("explorer-view", location.hash));
}
