/** Long lists are sent to Redis in parts: a command keeps everybody else waiting, and so does each way there and back. */

/** Of one command; about a millisecond of Redis. */
const CHUNK = 500
const ON_THEIR_WAY = 4

/** Calls `work` for each part of a list, a few at a time. The first failure ends it. */
export async function forEachChunk(
  length: number,
  work: (from: number, to: number) => Promise<void>,
): Promise<void> {
  for (let start = 0; start < length; start += CHUNK * ON_THEIR_WAY) {
    const parts = Array.from({ length: ON_THEIR_WAY }, (_, index) => start + index * CHUNK)
    await Promise.all(parts.filter((from) => from < length).map((from) => work(from, from + CHUNK)))
  }
}
