/**
 * Fill leases of several processes that are one, with the faults of real ones: a holder that falls asleep or is killed,
 * and a Redis that is away. What is told goes through its JSON.
 */
import {
  type FillLeases,
  type FillListener,
  type FillSource,
  LeaseUnavailableError,
} from '../../src/fill/fill-leases.ts'
import { type FillEnd, type FillState, parseNews, parseWant } from '../../src/fill/fill-state.ts'
import type { Digest } from '../../src/oci/digest.ts'

export interface LeaseTable {
  /** One for each process. */
  leases(): FillLeases
  /** No lease can be had or asked for; those that are held go on until `loseAll`. */
  away: boolean
  /** The holder is not heard of any more and does not know it: its lease has run out. Returns what tells it; nobody holds it: nothing. */
  silence(digest: Digest): () => void
  /** Redis is gone for too long: every holder gives up, every follower is told. */
  loseAll(): void
  /** What the holder of a digest said last. */
  said(digest: Digest): FillState | undefined
  /** How often a lease was taken. */
  readonly taken: number
}

interface Holder {
  readonly lost: AbortController
  source: FillSource | undefined
  /** Said before a word is delivered. */
  pending: NodeJS.Immediate | undefined
  isSilent: boolean
}

export function createLeaseTable(): LeaseTable {
  const holders = new Map<Digest, Holder>()
  const said = new Map<Digest, FillState>()
  const listeners = new Map<Digest, Set<FillListener>>()
  let away = false
  let taken = 0

  const listenersOf = (digest: Digest) => [...(listeners.get(digest) ?? [])]

  function tellState(digest: Digest, holder: Holder): void {
    holder.pending = undefined
    const state = holder.isSilent || away ? undefined : holder.source?.state()
    const news = state && parseNews(JSON.stringify({ state }))
    if (!news || !('state' in news)) return
    said.set(digest, news.state)
    for (const listener of listenersOf(digest)) listener.state(news.state)
  }

  function tellEnd(digest: Digest, end: FillEnd | { readonly kind: 'unreachable' }): void {
    const all = listenersOf(digest)
    listeners.delete(digest)
    for (const listener of all) listener.ended(end)
  }

  function take(digest: Digest): Awaited<ReturnType<FillLeases['take']>> {
    taken += 1
    const holder: Holder = {
      lost: new AbortController(),
      source: undefined,
      pending: undefined,
      isSilent: false,
    }
    const left = said.get(digest)
    holders.set(digest, holder)
    const changed = () => {
      holder.pending ??= setImmediate(() => tellState(digest, holder))
    }
    return {
      kind: 'mine',
      lease: {
        left,
        lost: holder.lost.signal,
        changed,
        share(source) {
          holder.source = source
          changed()
        },
        async end(word) {
          clearImmediate(holder.pending)
          if (holders.get(digest) !== holder) return
          holders.delete(digest)
          said.delete(digest)
          const news = parseNews(JSON.stringify({ end: word }))
          if (!news || !('end' in news)) throw new Error(`${JSON.stringify(word)} cannot be read again`)
          tellEnd(digest, news.end)
        },
      },
    }
  }

  return {
    get away() {
      return away
    },
    set away(value) {
      away = value
    },
    get taken() {
      return taken
    },
    said: (digest) => said.get(digest),
    silence(digest) {
      const holder = holders.get(digest)
      if (!holder) return () => undefined
      holder.isSilent = true
      holders.delete(digest)
      tellEnd(digest, { kind: 'left' })
      return () => holder.lost.abort(new LeaseUnavailableError(digest))
    },
    loseAll() {
      away = true
      for (const [digest, holder] of [...holders]) {
        holders.delete(digest)
        holder.lost.abort()
        tellEnd(digest, { kind: 'unreachable' })
      }
    },
    leases: () => ({
      isTaken: async (digest) => (away ? undefined : holders.has(digest)),
      async take(digest) {
        if (away) return { kind: 'unreachable' }
        if (!holders.has(digest)) return take(digest)
        return {
          kind: 'theirs',
          follow(listener) {
            const following = listeners.get(digest) ?? new Set()
            listeners.set(digest, following.add(listener))
            const state = said.get(digest)
            if (state) setImmediate(() => listenersOf(digest).includes(listener) && listener.state(state))
            if (!holders.has(digest)) setImmediate(() => listener.ended({ kind: 'left' }))
            return {
              want(want) {
                const parsed = parseWant(JSON.stringify(want))
                if (!parsed) throw new Error(`${JSON.stringify(want)} cannot be read again`)
                setImmediate(() => holders.get(digest)?.source?.wanted(parsed))
              },
              close: () => void listeners.get(digest)?.delete(listener),
            }
          },
        }
      },
    }),
  }
}
