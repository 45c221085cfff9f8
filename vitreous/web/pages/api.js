// Requests to the server: images, and jobs whose progress is followed until their arrays are there.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Cancelled extends Error {}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw new Cancelled();
    throw new ApiError("the server doesn't respond: is it still running?", 0);
  }
  if (response.ok) return response;
  let message = `the server refused this (${response.status})`;
  try { message = (await response.json()).error ?? message; } catch { /* it was no JSON */ }
  throw new ApiError(message, response.status);
}

export async function getJson(path, options) { return (await request(path, options)).json(); }

export async function getText(path) { return (await request(path)).text(); }

export async function getBlob(path) { return (await request(path)).blob(); }

// Uploads an image, or to another path a clip.
export async function upload(blob, path = "/api/images", signal = undefined) {
  const headers = {"Content-Type": "application/octet-stream"};
  return (await request(path, {method: "POST", body: blob, headers, signal})).json();
}

// What the server says of an image that it has.
export const describeImage = (image, signal) => getJson(`/api/images/${encodeURIComponent(image)}`, {signal});

export const imageUrl = (image, part) => `/api/images/${encodeURIComponent(image)}/${part}`;

export async function post(path, fields = {}) {
  const headers = {"Content-Type": "application/json"};
  return (await request(path, {method: "POST", headers, body: JSON.stringify(fields)})).json();
}

// Runs a job and returns its description and data. `onStatus` gets each change; the signal cancels the job.
export async function runJob(fields, {path = "/api/jobs", ...options} = {}) { return followJob((await post(path, fields)).job, options); }

// The same for a job that has begun.
export async function followJob(job, {signal, onStatus} = {}) {
  const path = `/api/jobs/${encodeURIComponent(job)}`;
  const end = () => fetch(path, {method: "DELETE", keepalive: true}).catch(() => {});
  if (signal?.aborted) { end(); throw new Cancelled(); }
  signal?.addEventListener("abort", end, {once: true});
  try {
    for (let after = 1; ;) {
      const status = await (await request(`${path}?after=${after}`, {signal})).json();
      after = status.number;
      if (status.state === "cancelled" || signal?.aborted) throw new Cancelled();
      if (status.state === "failed") {
        end();
        throw new ApiError(status.message, 400);
      }
      if (status.state === "done") {
        const data = await (await request(`${path}/data`, {signal})).arrayBuffer();
        end();
        return {description: status.result, data};
      }
      onStatus?.(status);
    }
  } catch (error) {
    throw error.name === "AbortError" ? new Cancelled() : error;
  } finally {
    signal?.removeEventListener("abort", end);
  }
}
