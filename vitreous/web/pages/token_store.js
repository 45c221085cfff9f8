// The tokens that are asked for: the newest are kept.
import {Jobs} from "./jobs.js";
import {withBusy} from "./notices.js";
import {PatchTokens} from "./tokens.js";

const KEPT = 8;

// The tokens of both panes. What is needed is {model, image, layer}.
export class TokenStore {
  // `onFound` is called when tokens have come.
  constructor(onFound) {
    this.onFound = onFound;
    this.jobs = new Jobs();
    this.found = new Map();
  }

  find(needed) { return this.found.get(JSON.stringify(needed)); }

  // Asks the server for all tokens that are needed and not there; those that are no longer needed are cancelled.
  request(all) {
    const wanted = new Map(all.map(needed => [JSON.stringify(needed), needed]));
    for (const key of [...this.jobs.pending.keys()]) if (!wanted.has(key)) this.jobs.cancel(key);
    for (const [key, needed] of wanted) {
      if (this.found.has(key) || this.jobs.isRunning(key, key)) continue;
      withBusy("features", async () => {
        const {description, data} = await this.jobs.run({kind: "tokens", ...needed}, {purpose: key, label: "features", key});
        this.found.set(key, new PatchTokens(description, data));
        if (this.found.size > KEPT) this.found.delete(this.found.keys().next().value);
        this.onFound();
      });
    }
  }
}
