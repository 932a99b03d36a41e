// The service, asked over HTTP by relative addresses, so that a path prefix of a proxy stays in front.

const PATIENCE = 30_000; // ms

/** Why there is no answer, as a sentence; `status` is HTTP's, 0 where none came. */
export class Failure extends Error {
  constructor(message, status = 0, retryAfter = 1) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }
}

// Storage throws where the browser forbids it; the key then holds until the page is left.
let key = "";
try {
  key = sessionStorage.getItem("api-key") ?? "";
} catch {
  // none is kept
}

/** Send this API key from now on. */
export function useKey(given) {
  key = given;
  try {
    sessionStorage.setItem("api-key", given);
  } catch {
    // as above
  }
}

/** Whether a key is sent. */
export const hasKey = () => Boolean(key);

/** What is served, and how fast: the fields of PageStatus in service/api/schemas.py. Raises Failure. */
export async function status() {
  return (await ask("page/status", {})).body;
}

/**
 * The answer of /v1/classify for one encoded image, and the milliseconds it took as seen from here.
 *
 * Raises Failure, or the signal's AbortError.
 */
export async function classify(image, model, signal) {
  const headers = { "content-type": "application/octet-stream" }; // the service looks at the bytes alone
  return ask(address(model), { method: "POST", body: await read(image), headers }, signal);
}

/** The same for up to 64 images in one form: `body.results` has a result or an error for each. */
export async function classifyMany(images, model, signal, top = 1) {
  const form = new FormData();
  for (const bytes of await Promise.all(images.map(read))) form.append("image", new Blob([bytes]));
  const { body, milliseconds } = await ask(address(model, top), { method: "POST", body: form }, signal);
  return { body: { ...body, results: body.results ?? [body] }, milliseconds };
}

/** One of the images that a model was exported with, as a File. Raises Failure. */
export async function sample({ name, version }, number) {
  const { body } = await ask(`page/samples/${name}/${version}/${number}`, {}, undefined, (response) => response.arrayBuffer());
  return new File([body], `sample ${number + 1}`);
}

function address(model, top) {
  const query = { ...(model && { model: model.name, version: model.version }), ...(top && { top_k: top }) };
  return `v1/classify?${new URLSearchParams(query)}`;
}

async function read(image) {
  try {
    return await image.arrayBuffer();
  } catch {
    throw new Failure("The file cannot be read. Is it a folder, or was it moved?");
  }
}

async function json(response) {
  return response.json().catch((error) => {
    if (error instanceof SyntaxError) return {}; // a page of some proxy
    throw error;
  });
}

async function ask(address, request, signal, understand = json) {
  const patience = AbortSignal.timeout(PATIENCE);
  const headers = { ...request.headers, ...(key && { "x-api-key": key }) };
  const started = performance.now();
  try {
    const response = await fetch(address, {
      ...request,
      headers,
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    if (!response.ok) throw failure(response, (await json(response)).error);
    return { body: await understand(response), milliseconds: performance.now() - started };
  } catch (error) {
    if (error instanceof Failure || signal?.aborted) throw error;
    if (patience.aborted) throw new Failure(`There was no answer within ${PATIENCE / 1000} s.`);
    throw new Failure("The service cannot be reached, or it ended the connection. Does it run, and are you online?");
  }
}

function failure(response, error) {
  const { status, statusText } = response;
  if (!error?.code) return new Failure(`${status} ${statusText}: the answer is not the service's own.`, status);
  const wait = response.headers.get("retry-after");
  const again = wait ? ` Try again in ${wait} s.` : "";
  const sentence = `${status} ${error.code}: ${error.message}`.replace(/\.?$/, ".");
  return new Failure(sentence + again, status, Number(wait ?? 1));
}
