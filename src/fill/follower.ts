/** One reader of a flight: from its spool, and from the primary itself once the spool is lost. */
import type { AskedRange } from '../oci/ranges.ts'
import type { Upstream } from '../upstream/upstream.ts'
import type { Caller } from './callers.ts'
import { createDirectReader, type DirectReader } from './direct-reader.ts'
import type { Follower } from './fill.ts'
import type { Flight } from './flight.ts'

/** `leave` is called when the follower closes; the flight must not be over. */
export function createFollower(
  upstream: Upstream,
  flight: Flight,
  caller: Caller,
  range: AskedRange | undefined,
  leave: () => void,
): Follower {
  const { spool } = flight
  const { digest, sizeBytes } = spool
  const releaseSpool = spool.retain()
  const endByte = wantedSpan(range, sizeBytes)[1]
  let direct: DirectReader | undefined
  flight.proceed()
  return {
    sizeBytes,
    async read(buffer, length, position, signal) {
      if (!direct) {
        const bytesRead = await flight.read(buffer, length, { position, endByte }, signal)
        if (bytesRead !== undefined) return bytesRead
        direct = createDirectReader({ upstream, caller, digest, sizeBytes, endByte, spool })
      }
      return direct.read(buffer, length, position, signal)
    },
    close() {
      leave()
      direct?.close()
      releaseSpool()
    },
  }
}

/** First byte a range wants of a blob, and one past its last; `Infinity` for the rest. */
export function wantedSpan(
  range: AskedRange | undefined,
  sizeBytes: number,
): readonly [startByte: number, endByte: number] {
  if (!range) return [0, Number.POSITIVE_INFINITY]
  if (range.start === undefined) return [Math.max(0, sizeBytes - (range.end ?? 0)), Number.POSITIVE_INFINITY]
  return [range.start, range.end === undefined ? Number.POSITIVE_INFINITY : range.end + 1]
}
