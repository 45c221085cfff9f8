// What can be taken away: the link, the Python lines, the picture.
import {toast} from "./notices.js";
import {pythonOf} from "./view.js";

const at = id => document.getElementById(id);

export function addSaving(explorer) {
  const whenReady = action => () => explorer.attention ? action() : toast("open an image first");
  at("copy-link").onclick = whenReady(() => copy(location.href, explorer.view.image.startsWith("upload-")
    ? "Link copied; it works while this session lasts" : "Link copied"));
  at("copy-python").onclick = whenReady(() => explorer.pane.source === "similarity" && !explorer.pane.reference
    ? toast("choose a patch first") : copy(python(explorer), "Python copied"));
  at("save-png").onclick = whenReady(() => savePng(explorer));
}

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // pages without a secure origin have no clipboard
    const area = Object.assign(document.createElement("textarea"), {value: text, className: "hidden"});
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(said);
}

function python({view, model, method, start, attention, observed, pane}) {
  const isCompared = pane.source === "similarity" ? pane.reference.pane !== pane : Boolean(pane.maps.sharesComponents());
  return pythonOf(view, {model, gallery: start.gallery, attention, geometry: observed.geometry, prediction: observed.prediction, method,
    other: isCompared ? pane.partner.view : null, patch: pane.reference?.patch});
}

async function savePng({view, model, observed, stage, pane}) {
  const top = observed.prediction.scores[0];
  const blob = await stage.toPng([pane.caption, [model.name, view.name,
    ...(top && observed.prediction.problem_type !== "regression" ? [`${top[0]} ${(100 * top[1]).toFixed(1)} %`] : [])].join(" · ")]);
  download(blob, `${view.name.replace(/\.\w+$/, "")}-${view.method}.png`);
}

// Saves bytes as a file of the browser's download folder.
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
