/** Between a flight of this process and its lease: what the others are told of it, and what they want of it. */
import { UpstreamError } from '../upstream/errors.ts'
import { type FillLease, LeaseUnavailableError } from './fill-leases.ts'
import { type FillEnd, failureOf } from './fill-state.ts'
import type { Ending, OwnFlight } from './flight.ts'
import type { Departure, StartOwnFlight } from './start.ts'

/** So long after the last word of it a client in another process counts as one that is there; it says so every second. */
const CLIENT_MS = 3000

/** Opens a flight of this process under its lease, which is given up whatever comes of it. Throws as `StartFlight`. */
export async function startHeld(
  startOwn: StartOwnFlight,
  departure: Departure,
  lease: FillLease,
): Promise<OwnFlight> {
  const { digest, pacing } = departure
  let flight: OwnFlight | undefined
  let leave: (() => void) | undefined
  let leaving: NodeJS.Timeout | undefined

  function clientLeaves(): void {
    clearTimeout(leaving)
    leave?.()
    leave = undefined
  }

  function clientIsThere(): void {
    leave ??= pacing.join(undefined)
    clearTimeout(leaving)
    leaving = setTimeout(clientLeaves, CLIENT_MS).unref()
  }

  function giveUp(): void {
    flight?.giveUp(new LeaseUnavailableError(digest))
  }

  lease.share({
    state: () => flight?.state(),
    wanted({ spans, client }) {
      if (client && !flight?.isOver) clientIsThere()
      for (const [position, endByte] of spans) flight?.lookAhead({ position, endByte })
    },
  })
  try {
    flight = await startOwn(departure, {
      left: lease.left,
      sharing: {
        changed: lease.changed,
        async ended(ending) {
          lease.lost.removeEventListener('abort', giveUp)
          clientLeaves()
          await lease.end(lastWord(ending))
        },
      },
    })
  } catch (error) {
    clientLeaves()
    await lease.end(error instanceof UpstreamError ? failed(error) : unkept(error))
    throw error
  }
  lease.lost.addEventListener('abort', giveUp)
  if (lease.lost.aborted) giveUp()
  lease.changed()
  return flight
}

function lastWord(ending: Ending): FillEnd {
  switch (ending.kind) {
    case 'published':
      return { kind: 'published' }
    case 'failed':
      return failed(ending.error)
    case 'unkept':
      return unkept(ending.error)
  }
}

/** Who gives up, for whatever reason of its own, leaves the blob to the others. */
function failed(error: UpstreamError): FillEnd {
  return error.kind === 'aborted' ? { kind: 'left' } : { kind: 'failed', failure: failureOf(error) }
}

function unkept(error: unknown): FillEnd {
  if (error instanceof LeaseUnavailableError) return { kind: 'left' }
  return { kind: 'unkept', message: error instanceof Error ? error.message : String(error) }
}
