// Jobs of the server: at most one for each purpose; a newer one cancels the one before it.
import {runJob} from "./api.js";
import {beginTask} from "./notices.js";

export class Jobs {
  // `place` returns the element in which the page shows their progress.
  constructor(place = () => null) {
    this.place = place;
    this.pending = new Map();
  }

  // Whether a job for the purpose runs that was begun with the key.
  isRunning(purpose, key) { return this.pending.get(purpose)?.key === key; }

  // Runs a job and returns its description and data; the page shows its progress, unless the label is empty. Throws
  // Cancelled or ApiError.
  async run(fields, {purpose, label, key = null, path}) {
    this.cancel(purpose);
    const controller = new AbortController(), own = {controller, key}, task = label ? beginTask(label, this.place()) : null;
    this.pending.set(purpose, own);
    try {
      return await runJob(fields, {path, signal: controller.signal, onStatus: task?.update});
    } finally {
      task?.end();
      if (this.pending.get(purpose) === own) this.pending.delete(purpose);
    }
  }

  // Cancels the job for a purpose, or all of them.
  cancel(purpose = null) {
    for (const [name, {controller}] of [...this.pending]) {
      if (purpose !== null && name !== purpose) continue;
      this.pending.delete(name);
      controller.abort();
    }
  }
}
