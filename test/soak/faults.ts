/**
 * What befalls a soak, as plain values out of a seed: storms of a few faults at different places, each followed by a calm
 * in which nothing may go wrong. Every kind comes up before one comes up again.
 */

export type LinkName = 'tokyo' | 'lima' | 'tokyo’s relay' | 'lima’s relay'
export type ProcessName = 'tokyo' | 'lima a' | 'lima b' | 'replicator' | 'relay' | 'registry' | 'Redis'

export type LinkTrouble = 'cut' | 'cut after' | 'stall' | 'slow' | 'black hole' | 'refuse' | 'corrupt'
export type ProcessTrouble = 'kill' | 'restart' | 'freeze' | 'empty'

export type Fault =
  | {
      readonly on: 'link'
      readonly target: LinkName
      readonly how: LinkTrouble
      readonly forMs: number
      /** After how many more bytes it strikes, for `cut after` and `corrupt`. */
      readonly bytes: number
    }
  | {
      readonly on: 'process'
      readonly target: ProcessName
      readonly how: ProcessTrouble
      readonly forMs: number
    }

export interface Storm {
  readonly faults: readonly { readonly afterMs: number; readonly fault: Fault }[]
  /** From the end of its last fault to the next storm. */
  readonly calmMs: number
}

const PRIMARY_LINKS: readonly LinkName[] = ['tokyo', 'lima']
const RELAY_LINKS: readonly LinkName[] = ['tokyo’s relay', 'lima’s relay']
const LINKS: readonly LinkName[] = [...PRIMARY_LINKS, ...RELAY_LINKS]
const ANSWERING: readonly ProcessName[] = ['tokyo', 'lima a', 'lima b']

/** What may be struck in which way. */
const KINDS: readonly { readonly how: LinkTrouble | ProcessTrouble; readonly targets: readonly string[] }[] =
  [
    { how: 'cut', targets: LINKS },
    { how: 'cut after', targets: PRIMARY_LINKS },
    { how: 'stall', targets: PRIMARY_LINKS },
    { how: 'slow', targets: LINKS },
    { how: 'black hole', targets: PRIMARY_LINKS },
    { how: 'refuse', targets: LINKS },
    // Beside the others, since only they show tags that are believed for too long.
    { how: 'stall', targets: RELAY_LINKS },
    { how: 'black hole', targets: RELAY_LINKS },
    // The relay's line is for TLS where bytes may be spoiled; what comes from the primary has digests.
    { how: 'corrupt', targets: PRIMARY_LINKS },
    { how: 'kill', targets: ANSWERING },
    { how: 'kill', targets: ['registry', 'relay', 'replicator', 'Redis'] },
    { how: 'restart', targets: [...ANSWERING, 'replicator', 'relay', 'registry'] },
    { how: 'freeze', targets: ['registry', 'Redis'] },
    { how: 'empty', targets: ['Redis'] },
  ]

const STORM_MS = 5_000
const CALM_MS = 8_000
const SHORTEST_MS = 500
/** Well beyond `tags.maxstaleness` and `tags.trust`. */
const SHORTEST_RELAY_MS = 4_500
/** Longer than `outage.maxstale` and `tags.maxstaleness` of the sites, so that what these forbid would show. */
const LONGEST_LINE_MS = 6_500
/** Under the 4 s that the relay's proof allows a registry to stand still after an event that it gave up. */
const LONGEST_PROCESS_MS = 3_500
const FAULTS = { fewest: 4, most: 6 }

/** Without end; `chance` gives numbers from 0 to below 1. */
export function* storms(chance: () => number): Generator<Storm, never> {
  let deck: (typeof KINDS)[number][] = [...KINDS]
  const upTo = (count: number) => Math.floor(chance() * count)

  function draw(taken: ReadonlySet<string>): Fault | undefined {
    const freeOf = ({ targets }: (typeof KINDS)[number]) => targets.filter((target) => !taken.has(target))
    const playable = deck.filter((kind) => freeOf(kind).length > 0)
    const kind = playable[upTo(playable.length)]
    if (!kind) {
      deck = [...deck, ...KINDS]
      return undefined
    }
    deck.splice(deck.indexOf(kind), 1)
    const free = freeOf(kind)
    const target = free[upTo(free.length)]
    const isLine = [LINKS, PRIMARY_LINKS, RELAY_LINKS].some((lines) => lines === kind.targets)
    const longestMs = isLine ? LONGEST_LINE_MS : LONGEST_PROCESS_MS
    const shortestMs = kind.targets === RELAY_LINKS ? SHORTEST_RELAY_MS : SHORTEST_MS
    const forMs = shortestMs + upTo(longestMs - shortestMs)
    // Some within heads and manifests, some deep in a layer.
    const bytes = chance() < 0.5 ? upTo(3_000) : upTo(400_000)
    return target !== undefined ? faultOf(kind.how, target, forMs, bytes) : undefined
  }
  for (;;) {
    const count = FAULTS.fewest + upTo(FAULTS.most - FAULTS.fewest + 1)
    const taken = new Set<string>()
    const faults: { afterMs: number; fault: Fault }[] = []
    while (faults.length < count) {
      const fault = draw(taken)
      if (!fault) continue
      taken.add(fault.target)
      faults.push({ afterMs: upTo(STORM_MS), fault })
    }
    yield { faults: faults.toSorted((one, other) => one.afterMs - other.afterMs), calmMs: CALM_MS }
  }
}

function faultOf(
  how: LinkTrouble | ProcessTrouble,
  target: string,
  forMs: number,
  bytes: number,
): Fault | undefined {
  const process = PROCESSES.find((name) => name === target)
  const link = LINKS.find((name) => name === target)
  switch (how) {
    case 'kill':
    case 'restart':
    case 'freeze':
    case 'empty':
      return process && { on: 'process', target: process, how, forMs }
    default:
      return link && { on: 'link', target: link, how, forMs, bytes }
  }
}

const PROCESSES: readonly ProcessName[] = [...ANSWERING, 'replicator', 'relay', 'registry', 'Redis']

/** Whether a process of the product goes with it. */
export function endsOurs({ on, target, how }: Fault): boolean {
  return (
    on === 'process' && target !== 'registry' && target !== 'Redis' && (how === 'kill' || how === 'restart')
  )
}

export function faultText({ target, how, ...rest }: Fault): string {
  const after = 'bytes' in rest && (how === 'corrupt' || how === 'cut after') ? ` ${rest.bytes} bytes` : ''
  return `${how}${after}: ${rest.on === 'link' ? `the line of ${target}` : target}`
}
