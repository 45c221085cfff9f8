// What the page says: short messages, errors, and the bar that shows what is being computed.
import {Cancelled} from "./api.js";
import {at} from "./dom.js";

const running = []; // what is being done, newest last
let toastTimer;

export function toast(text, isError = false) {
  clearTimeout(toastTimer);
  at("toast").textContent = text;
  at("toast").className = `shown${isError ? " error" : ""}`;
  toastTimer = setTimeout(() => { at("toast").className = ""; }, isError ? 7000 : 2500);
}

export function showError(error) { toast(error.message, true); }

// Announces work that takes longer than a moment: `update` takes the status of a job, `end` removes it. `place`
// is the element that shows it; by default the one that did so before.
export function beginTask(text, place = null, controller = null) {
  const task = {text, place, controller, status: null, isShown: false};
  const timer = setTimeout(() => { task.isShown = true; draw(); }, 180);
  running.push(task);
  return {
    update: status => { task.status = status; draw(); },
    end: () => { clearTimeout(timer); running.splice(running.indexOf(task), 1); draw(); },
  };
}

function draw() {
  const task = running.findLast(one => one.isShown), {state, before, done, total, message} = task?.status ?? {};
  at("busy").hidden = !task;
  if (!task) return;
  if (task.place && at("busy").parentElement !== task.place) task.place.append(at("busy"));
  at("busy-text").textContent = state === "queued" && before ? `waiting: ${before} before this`
    : done ? `${task.text}: ${done}${total ? ` of ${total}` : ""} ${message}` : task.text;
  if (total) Object.assign(at("busy-bar"), {max: total, value: Math.min(done, total)});
  else at("busy-bar").removeAttribute("value");
}

// Cancels what `withBusy` does, or that part of it whose text begins so.
export function cancelBusy(start = "") { for (const {controller, text} of running) if (text.startsWith(start)) controller?.abort(); }

// Does `work` and says so; an error is shown, unless a person has cancelled. `work` gets the signal that says so.
export async function withBusy(text, work) {
  const controller = new AbortController(), {signal} = controller, task = beginTask(text, null, controller);
  try {
    await work(signal);
  } catch (error) {
    if (!(error instanceof Cancelled || signal.aborted)) showError(error);
  } finally {
    task.end();
  }
}
