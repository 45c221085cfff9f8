// Ways to open an image file: the button, the clipboard, and dropping.
import {at} from "./dom.js";

export function addFiles(explorer) {
  at("open").onclick = at("choose").onclick = () => at("file").click();
  at("file").onchange = () => { explorer.openFile(at("file").files[0]); at("file").value = ""; };
  addEventListener("paste", event => {
    const item = [...event.clipboardData?.items ?? []].find(one => one.kind === "file");
    if (item) explorer.openFile(item.getAsFile());
  });
  addEventListener("dragover", event => { event.preventDefault(); at("drop").hidden = false; });
  addEventListener("dragleave", event => { if (!event.relatedTarget) at("drop").hidden = true; });
  addEventListener("drop", event => {
    event.preventDefault();
    at("drop").hidden = true;
    explorer.openFile(event.dataTransfer.files[0]);
  });
}
