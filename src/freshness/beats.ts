/**
 * How a moment is told between processes whose monotonic clocks have nothing in common but their rate. Each process
 * keeps a nonce in Redis and remembers when it sent it. Whoever has read that nonce knows that it was sent before, so a
 * moment that lies `d` after the reading lies at least `d` after the sending, on the sender's clock too.
 */
import { randomBytes } from 'node:crypto'

/** A nonce sent longer ago says nothing: by then two clocks may have drifted apart. */
const NONCE_HOLDS_MS = 60_000
/** A process whose nonce has not changed for so long is gone, and so is every request it sent to the primary. */
const SILENT_MS = 10 * 60_000
/** Nonces remembered, for clocks that stand still. */
const MOST_NONCES = 1000

export interface Beats {
  /** The nonce of this process, sent at the latest now. */
  nonce(): string
  /** A new one, to be sent. */
  next(): string
  /** Processes and their nonces, as they were in Redis before this call. */
  read(all: ReadonlyMap<string, string>): void
  /** A moment on this clock, told to each process of which a nonce has been read. */
  tell(momentMs: number): [process: string, told: string][]
  /** What was told to this process, on its clock: the moment was then or later. Undefined: not known. */
  moment(told: string): number | undefined
  /** Processes that are gone, each with the nonce it left. */
  silent(): [process: string, nonce: string][]
}

export function createBeats({ now }: { readonly now: () => number }): Beats {
  // Oldest first.
  const sent = new Map<string, number>()
  let others = new Map<string, { readonly nonce: string; readonly readAtMs: number }>()
  let own = ''
  next()

  function next(): string {
    own = randomBytes(8).toString('hex')
    sent.set(own, now())
    for (const [nonce, atMs] of sent) {
      if (sent.size <= MOST_NONCES && now() - atMs <= NONCE_HOLDS_MS) break
      sent.delete(nonce)
    }
    return own
  }

  return {
    nonce: () => own,
    next,
    read(all) {
      const readAtMs = now()
      others = new Map(
        [...all].map(([process, nonce]) => {
          const known = others.get(process)
          return [process, known?.nonce === nonce ? known : { nonce, readAtMs }]
        }),
      )
    },
    tell: (momentMs) =>
      [...others].map(([process, { nonce, readAtMs }]) => [process, `${nonce} ${momentMs - readAtMs}`]),
    moment(told) {
      const [nonce = '', afterMs] = told.split(' ')
      const sentAtMs = sent.get(nonce)
      if (sentAtMs === undefined || now() - sentAtMs > NONCE_HOLDS_MS) return undefined
      return sentAtMs + Number(afterMs)
    },
    silent: () =>
      [...others].flatMap(([process, { nonce, readAtMs }]) =>
        now() - readAtMs >= SILENT_MS ? [[process, nonce]] : [],
      ),
  }
}
