// Many requests, a few at a time.

/** Calls `work(number)` for 0 to count - 1, `most` at a time, until all are done or `signal` says to stop. */
export async function inParallel(count, most, signal, work) {
  let next = 0;
  const worker = async () => {
    while (next < count && !signal.aborted) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(most, count) }, worker));
}

/** Resolves after so many seconds, or at once when `signal` says to stop. */
export function pause(seconds, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", resolve, { once: true });
  });
}
