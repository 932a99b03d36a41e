// The service, asked over HTTP by relative addresses, so that a path prefix of a proxy stays in front.

const PATIENCE = 30_000; // ms

/** Why there is no answer, as a sentence; `status` is HTTP's, 0 where none came. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
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
  let bytes;
  try {
    bytes = await image.arrayBuffer();
  } catch {
    throw new Failure("The file cannot be read. Is it a folder, or was it moved?");
  }
  const query = new URLSearchParams(model ? { model: model.name, version: model.version } : {});
  const headers = { "content-type": "application/octet-stream" }; // the service looks at the bytes alone
  return ask(`v1/classify?${query}`, { method: "POST", body: bytes, headers }, signal);
}

async function ask(address, request, signal) {
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
    const body = await response.json().catch((error) => {
      if (error instanceof SyntaxError) return {}; // a page of some proxy
      throw error;
    });
    if (!response.ok) throw failure(response, body.error);
    return { body, milliseconds: performance.now() - started };
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
  return new Failure(sentence + again, status);
}
