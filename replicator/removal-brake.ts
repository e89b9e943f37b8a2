/**
 * The brake of law 12. What was let through, trip and release stand in the tracking database, so that no restart forgets
 * a trip or begins to count anew, and one process of several sees what the others let through.
 */
import type { Logger } from '../src/log.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import type { Brake, BrakeStatus, Removal } from './brake.ts'

export interface RemovalBrakeDeps {
  readonly tracking: Pick<Tracking, 'counts' | 'cursor' | 'setCursor'>
  readonly log: Pick<Logger, 'error' | 'warn' | 'info'>
  /** Wall-clock milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

interface Sums {
  readonly repositories: number
  readonly tags: number
}

interface State {
  readonly trippedAtMs: number | undefined
  readonly releasedAtMs: number | undefined
  /** Held back since the pass began. */
  readonly waiting: Sums
  readonly examples: readonly RepositoryName[]
}

/** Let through since the pass began, and for which repositories. */
interface Passed {
  readonly sums: Sums
  readonly counted: readonly (readonly [RepositoryName, Counted])[]
}

type Counted = Pick<Removal, 'tags' | 'whole'>
type Ledger = ReadonlyMap<RepositoryName, Counted>

const REPOSITORIES = 100
const TAGS = 100
const TAGS_SHARE = 0.01
const EXAMPLES = 100
/** Beyond so many a repository that is named again counts again, which errs to the safe side. */
const COUNTED = 1000
/** Cursors. Two, so that a process that writes what it let through cannot undo a trip that another one writes. */
const STATE = 'brake'
const PASSED = 'brake passed'

const NONE: Sums = { repositories: 0, tags: 0 }
const OPEN: State = { trippedAtMs: undefined, releasedAtMs: undefined, waiting: NONE, examples: [] }
const NOTHING: Passed = { sums: NONE, counted: [] }

export function createRemovalBrake({ tracking, log, now = Date.now }: RemovalBrakeDeps): Brake {
  /** Which repositories `waiting` was counted for: as many as there are, so it is not written down. */
  let waitingFor: Ledger = new Map()
  let turn: Promise<unknown> = Promise.resolve()

  /** One at a time: each reads what the one before it wrote. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = turn.then(work)
    turn = result.catch(() => undefined) // Its own caller hears of it.
    return result
  }

  async function read(): Promise<State> {
    const text = await tracking.cursor(STATE)
    return text === undefined ? OPEN : { ...OPEN, ...(JSON.parse(text) as Partial<State>) }
  }

  async function write(state: State): Promise<void> {
    await tracking.setCursor(STATE, JSON.stringify(state))
  }

  async function readPassed(): Promise<Passed> {
    const text = await tracking.cursor(PASSED)
    return text === undefined ? NOTHING : (JSON.parse(text) as Passed)
  }

  async function exceeds({ repositories, tags }: Sums): Promise<boolean> {
    if (repositories >= REPOSITORIES) return true
    return tags >= TAGS && tags > TAGS_SHARE * (await tracking.counts()).tags
  }

  async function allows(asked: readonly Removal[]): Promise<boolean> {
    const removals = asked.filter(({ tags, whole }) => tags > 0 || whole)
    if (removals.length === 0) return true
    const state = await read()
    if (state.releasedAtMs !== undefined) return true
    if (state.trippedAtMs === undefined && (await pass(removals))) return true
    await hold(state, removals)
    return false
  }

  async function pass(removals: readonly Removal[]): Promise<boolean> {
    const passed = await readPassed()
    const { added, ledger } = countUp(new Map(passed.counted), removals)
    const sums = add(passed.sums, added)
    if (await exceeds(sums)) return false
    const counted = [...ledger].slice(0, COUNTED)
    await tracking.setCursor(PASSED, JSON.stringify({ sums, counted } satisfies Passed))
    return true
  }

  async function hold(state: State, removals: readonly Removal[]): Promise<void> {
    const { added, ledger } = countUp(waitingFor, removals)
    const waiting = add(state.waiting, added)
    const names = [...state.examples, ...removals.map(({ repository }) => repository)]
    const examples = [...new Set(names)].slice(0, EXAMPLES)
    await write({ ...state, trippedAtMs: state.trippedAtMs ?? now(), waiting, examples })
    waitingFor = ledger
    if (state.trippedAtMs === undefined) {
      log.error(
        { ...waiting, examples: examples.slice(0, 5) },
        'the brake tripped: what the primary no longer has stays here until a hand releases it',
      )
    }
  }

  async function beginPass(): Promise<void> {
    const { trippedAtMs, releasedAtMs } = await read()
    await tracking.setCursor(PASSED, undefined)
    // What still waits is asked about again in this pass; what the primary has got back is not.
    if (trippedAtMs !== undefined || releasedAtMs !== undefined) await write({ ...OPEN, trippedAtMs })
    waitingFor = new Map()
  }

  async function release(): Promise<void> {
    const { trippedAtMs, waiting: held } = await read()
    if (trippedAtMs === undefined) return
    await write({ ...OPEN, releasedAtMs: now() })
    waitingFor = new Map()
    log.warn({ ...held }, 'the brake was released: what waited may take effect until the next pass begins')
  }

  return {
    allows: (removals) => inTurn(() => allows(removals)),
    beginPass: () => inTurn(beginPass),
    release: () => inTurn(release),
    async status(): Promise<BrakeStatus> {
      const { trippedAtMs, releasedAtMs, waiting: held, examples } = await read()
      return { trippedAtMs, releasedAtMs, ...held, examples }
    },
  }
}

function add(one: Sums, other: Sums): Sums {
  return { repositories: one.repositories + other.repositories, tags: one.tags + other.tags }
}

/** Each repository counts once, with the most it was named with. */
function countUp(counted: Ledger, removals: readonly Removal[]): { added: Sums; ledger: Ledger } {
  const ledger = new Map(counted)
  let added = NONE
  for (const { repository, tags, whole } of removals) {
    const before = ledger.get(repository) ?? { tags: 0, whole: false }
    const after = { tags: Math.max(before.tags, tags), whole: before.whole || whole }
    const repositories = Number(after.whole) - Number(before.whole)
    added = add(added, { repositories, tags: after.tags - before.tags })
    ledger.set(repository, after)
  }
  return { added, ledger }
}
