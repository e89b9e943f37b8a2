/** The fill: one flight per digest, for clients that follow it and for the site's own fetches (law 7). */
import type { Credential } from '../upstream/upstream.ts'
import { createBoarding } from './boarding.ts'
import { openDirect } from './direct-reader.ts'
import type { Fill } from './fill.ts'
import type { FillLeases } from './fill-leases.ts'
import type { FlightDependencies } from './flight.ts'
import { createFollower } from './follower.ts'
import type { Background } from './pacing.ts'
import { PIECE_BYTES } from './plan.ts'
import { abortable } from './share.ts'
import { openSharedSpools } from './shared-spools.ts'
import { openSpools } from './spools.ts'

export interface FillOptions {
  /** `<root>/geo-registry/spools`, on the filesystem of the blobs. Made when missing. */
  readonly folder: string
  /**
   * What a flight asks with when no follower is left. Undefined: such a flight is suspended, and its spool kept until
   * somebody asks again.
   */
  readonly siteCredential?: Credential | undefined
  /** Default 64. Joining a flight is always possible. */
  readonly maxConcurrentFills?: number | undefined
  /** How long one waits where the places are taken by blobs that only the disk keeps there. Default 10 000. */
  readonly placeWithinMs?: number | undefined
  /** Default `PIECE_BYTES`, 32 MiB. A fetch over several connections reads parts of at least a quarter of it. */
  readonly pieceBytes?: number | undefined
  /** With other processes on the same store, which all name the same folder. Undefined: this one is alone. */
  readonly leases?: FillLeases | undefined
}

export interface OpenFill extends Fill {
  /** Ends every flight and keeps what has come of it. Waiting followers get `UpstreamError` `aborted`. */
  close(): Promise<void>
}

const DEFAULT_MAX_FILLS = 64
/** Shorter than clients' patience for the head of an answer. */
const DEFAULT_PLACE_WITHIN_MS = 10_000
const SWEEP_INTERVAL_MS = 60 * 60 * 1000

/** Removes the spools nobody can resume; the others are resumed when somebody asks. */
export async function openFill(dependencies: FlightDependencies, options: FillOptions): Promise<OpenFill> {
  const { upstream, log } = dependencies
  const { folder, leases } = options
  const spools = await (leases ? openSharedSpools(folder, leases.isTaken) : openSpools(folder))
  const boarding = createBoarding(
    { ...dependencies, spools },
    {
      siteCredential: options.siteCredential,
      maxFills: options.maxConcurrentFills ?? DEFAULT_MAX_FILLS,
      placeWithinMs: options.placeWithinMs ?? DEFAULT_PLACE_WITHIN_MS,
      pieceBytes: options.pieceBytes ?? PIECE_BYTES,
      sharing: leases && { leases, folder },
    },
  )
  await spools.sweep(boarding.isFlying)
  const sweeping = setInterval(() => {
    spools
      .sweep(boarding.isFlying)
      .catch((error: unknown) => log.error({ error }, 'spools could not be swept'))
  }, SWEEP_INTERVAL_MS).unref()

  return {
    get inFlight() {
      return boarding.inFlight
    },
    async follow(name, digest, { credential, expiresAtMs, requestId, range, signal }) {
      const caller = { name, credential, expiresAtMs, requestId }
      const boarded = await boarding.board(digest, { ...caller, range, signal }, (flight, leave) =>
        createFollower(upstream, flight, caller, range, leave),
      )
      switch (boarded.kind) {
        case 'flight':
          return { kind: 'follower', follower: boarded.place }
        case 'no-room':
          return { kind: 'follower', follower: await openDirect(upstream, digest, caller, signal) }
        default:
          return boarded
      }
    },
    async fetch(name, digest, { credential, signal, connections = 1, pace }) {
      const { background, settled } = accountable({ connections, pace })
      const boarded = await boarding.board(
        digest,
        { name, credential, signal, background },
        (flight, leave) => {
          flight.proceed()
          return { flight, leave }
        },
      )
      if (boarded.kind === 'no-room') throw boarded.error
      if (boarded.kind !== 'flight') return // Stored: the whole is never passed by.
      const { flight, leave } = boarded.place
      try {
        const ending = await abortable(flight.ended, signal)
        if (ending.kind !== 'published') throw ending.error
        await abortable(settled(), signal)
      } finally {
        leave()
      }
    },
    async close() {
      clearInterval(sweeping)
      await boarding.close()
    },
  }
}

/**
 * A pace whose waits can be waited for when the blob is here already: a blob smaller than what is written at once would
 * else never have waited, nor would a thousand of them.
 */
function accountable({ connections, pace }: Background): {
  background: Background
  settled: () => Promise<unknown>
} {
  const waits = new Set<Promise<void>>()
  const told: Background['pace'] =
    pace &&
    ((bytes, signal) => {
      const wait = pace(bytes, signal).finally(() => waits.delete(wait))
      waits.add(wait)
      return wait
    })
  return { background: { connections, pace: told }, settled: () => Promise.allSettled(waits) }
}
