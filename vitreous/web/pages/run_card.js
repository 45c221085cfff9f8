// How far one run is: its state, progress, remaining time and newest scores, and its model.
import {at, made} from "./dom.js";

const STATES = {starting: "starting", training: "training", stopped: "stopped", finished: "finished"};

// Writes seconds as 0:42, 12:05 or 3:04:05.
export function formatClock(seconds) {
  const whole = Math.round(seconds), parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${String(rest).padStart(2, "0")}` : `${minutes}:${String(rest).padStart(2, "0")}`;
}

const count = number => number.toLocaleString("en");

export class RunCard {
  constructor(index, style, hasColor, onReload) {
    this.name = made("h2", {id: `run-${index}`});
    this.swatch = made("span", {className: `swatch ${style}`});
    this.swatch.hidden = !hasColor;
    this.state = made("span", {className: "state"});
    const head = made("div", {className: "run-head"}, this.swatch, this.name, this.state);
    this.about = made("p", {className: "quiet"});
    this.bar = made("progress", {ariaLabel: "Steps taken"});
    this.progress = made("p", {className: "numbers"});
    this.scores = made("p", {className: "numbers"});
    this.problem = made("p", {className: "wrong"});
    this.open = made("a", {className: "button", textContent: "Open in the explorer"});
    this.reload = made("button", {textContent: "Reload the latest checkpoint"});
    this.reload.addEventListener("click", onReload);
    this.weights = made("span", {className: "quiet"});
    const row = made("div", {className: "row"}, this.open, this.reload, this.weights);
    const card = made("article", {className: "card run"}, head, this.about, this.bar, this.progress, this.scores, this.problem, row);
    card.setAttribute("aria-labelledby", `run-${index}`);
    at("runs").append(card);
  }

  show({description, status, metrics}) {
    if (this.status && this.status.state !== status.state) {
      at("said").textContent = `${description.name}: ${STATES[status.state]}`;
    }
    this.status = status;
    this.name.textContent = description.name;
    this.about.textContent = `${description.recipe} on ${description.data}`;
    this.state.textContent = STATES[status.state];
    this.state.className = `state ${status.state}`;
    this.showProgress(description, status, metrics);
    this.scores.textContent = newestScores(description, metrics);
    this.problem.textContent = status.problem ?? "";
    this.showModel(status);
  }

  showProgress({epochs}, {state, step, steps, seconds_left, checkpoint_step}, metrics) {
    if (steps) Object.assign(this.bar, {max: steps, value: Math.min(step, steps)});
    this.bar.hidden = !steps;
    const epoch = metrics?.epoch.at(-1);
    const parts = [`step ${count(step)}${steps ? ` of ${count(steps)}` : ""}`];
    if (epoch !== undefined) parts.push(`epoch ${epoch.toFixed(2)} of ${epochs}`);
    if (seconds_left !== null) parts.push(`${formatClock(seconds_left)} left`);
    if (state === "stopped") parts.push(checkpoint_step === null ? "no checkpoint" : `a resume goes on after step ${count(checkpoint_step)}`);
    this.progress.textContent = parts.join(" · ");
  }

  showModel({model, loaded_step, checkpoint_step}) {
    this.open.hidden = model === null;
    if (model !== null) this.open.href = model ? `/#m=${model}` : "/";
    this.reload.hidden = checkpoint_step === null && model === null;
    this.isCurrent = model !== null && checkpoint_step === loaded_step;
    this.reload.disabled = this.isCurrent || this.isBusy;
    const saved = checkpoint_step === null ? "" : `step ${count(checkpoint_step)}`;
    this.weights.textContent = model === null ? saved && `saved: ${saved}` || "no checkpoint yet"
      : this.isCurrent ? `the explorer has the latest${saved && `: ${saved}`}`
      : `the explorer has ${loaded_step === null ? "other weights" : `step ${count(loaded_step)}`}, saved: ${saved}`;
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    this.reload.disabled = isBusy || this.isCurrent;
    this.reload.ariaBusy = isBusy;
  }
}

function newestScores({metric}, metrics) {
  if (!metrics) return "";
  const format = value => metric.is_fraction ? `${(100 * value).toFixed(1)} %` : value.toPrecision(3), parts = [];
  for (const [name, isValidation] of [["training", false], ["validation", true]]) {
    const last = metrics.validation.lastIndexOf(isValidation);
    if (last < 0) continue;
    const loss = metrics.loss[last], score = metrics.score[last];
    const values = [loss === null ? "" : `loss ${loss.toFixed(3)}`, metric.name === "loss" || score === null ? "" : `${metric.label} ${format(score)}`];
    parts.push(`${name} ${values.filter(Boolean).join(", ")}`);
  }
  return parts.join(" · ");
}
