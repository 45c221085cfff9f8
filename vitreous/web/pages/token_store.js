// The tokens that are asked for: those that were used last are kept.
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
    this.coming = new Map(); // promises, by key
    this.ahead = new Set(); // the keys of those that are needed soon
  }

  find(needed) {
    const key = JSON.stringify(needed), tokens = this.found.get(key);
    if (tokens && this.found.delete(key)) this.found.set(key, tokens);
    return tokens;
  }

  // Asks the server for all tokens that are needed and not there; those that are no longer needed are cancelled.
  request(all) {
    const wanted = new Map(all.map(needed => [JSON.stringify(needed), needed]));
    for (const key of [...this.jobs.pending.keys()]) {
      if (wanted.has(key) || this.ahead.has(key)) continue;
      this.jobs.cancel(key);
      this.coming.delete(key);
    }
    for (const [key, needed] of wanted) {
      if (!this.found.has(key) && !this.coming.has(key)) withBusy("features", async () => { await this.get(needed); this.onFound(); });
    }
  }

  // Gets the tokens that a frame needs, before it is shown.
  async prepare(all) {
    const keys = all.map(needed => JSON.stringify(needed));
    for (const key of keys) this.ahead.add(key);
    try {
      await Promise.all(all.map(needed => this.get(needed)));
    } finally {
      for (const key of keys) this.ahead.delete(key);
    }
  }

  // Tokens as a promise; whoever else asks for them meanwhile gets the same.
  get(needed) {
    const key = JSON.stringify(needed), found = this.find(needed);
    if (found || this.coming.has(key)) return found ?? this.coming.get(key);
    const coming = this.run(key, needed).finally(() => { if (this.coming.get(key) === coming) this.coming.delete(key); });
    this.coming.set(key, coming);
    return coming;
  }

  async run(key, needed) {
    const {description, data} = await this.jobs.run({kind: "tokens", ...needed}, {purpose: key, label: "features", key});
    this.found.set(key, new PatchTokens(description, data));
    if (this.found.size > KEPT) this.found.delete(this.found.keys().next().value);
  }
}
