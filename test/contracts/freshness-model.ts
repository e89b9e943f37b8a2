/** The law of freshness as a log that is searched from the start each time: slow, forgetful of nothing, plainly right. */
import fc from 'fast-check'
import { expect } from 'vitest'
import {
  type Announced,
  type Epochs,
  type Freshness,
  type HeardChange,
  type Observation,
  type PendingWrite,
  SETTLED_MS,
} from '../../src/freshness/freshness.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { DIGESTS, NAME, NAMES, OLD, TAG, TAGS } from './freshness-world.ts'

const LONG_AGO_MS = 3_600_000
export const LIMITS = { trustMs: 100, maxStalenessMs: 10_000 }

/** One process of the site; its first is the one that follows the primary's events. */
export interface ModelledProcess {
  readonly freshness: Freshness & Epochs
  /** What the law confirms must be confirmed; otherwise it may be forgotten, and never the other way round. */
  readonly isExact: boolean
  /** Its clock, in milliseconds. */
  readonly now: () => number
}

/** One step of a history; indices are taken modulo what there is. `by` is the process that takes it. */
const index = fc.nat({ max: 20 })
const kind = <const K extends string>(of: K) => ({ do: fc.constant(of), by: index })
const change = fc.record({ tag: fc.option(index), said: fc.constantFrom(0, 1, 'gone', 'nothing') })
const step = fc.oneof(
  fc.record({ ...kind('observe'), name: index, tag: index }),
  fc.record({ ...kind('confirm'), which: index, digest: index }),
  fc.record({ ...kind('begin'), name: index, tags: fc.array(index, { maxLength: 2 }) }),
  fc.record({ ...kind('end'), which: index, digest: index }),
  fc.record({ ...kind('hear'), name: index, changes: fc.array(change, { minLength: 1, maxLength: 2 }) }),
  fc.record({
    ...kind('wait'),
    ms: fc.oneof(fc.nat({ max: 60 }), fc.constantFrom(5000, 30_000, SETTLED_MS)),
  }),
  fc.record({ ...kind('epoch') }),
  fc.record({ ...kind('advance'), agoMs: fc.constantFrom(0, 0, 3000) }),
)
export const history = fc.array(step, { maxLength: 50, size: 'max' })
export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

interface Entry {
  readonly event: 'write' | 'heard' | 'confirmation'
  readonly name: RepositoryName
  /** None: all of the repository. */
  readonly tags: readonly Tag[]
}
interface Heard extends Entry {
  readonly event: 'heard'
  readonly changes: readonly HeardChange[]
  readonly atMs: number
}
interface Answer extends Entry {
  readonly event: 'confirmation'
  readonly digest: Digest
  readonly question: Question
  /** Recorded while a write of the tag was on its way: confirms nothing. */
  readonly isBesideWrite: boolean
}
/** When and by whom a question was asked; answers are compared by what the log has gained since. */
interface Question {
  readonly observation: Observation
  readonly by: number
  readonly logLength: number
  readonly order: number
  readonly atMs: number
  readonly epoch: number | undefined
  readonly announced: Announced | undefined
}
interface Write extends Omit<Question, 'observation' | 'logLength'> {
  readonly write: PendingWrite
  readonly name: RepositoryName
  readonly tags: readonly Tag[]
  readonly announcedOf: ReadonlyMap<Tag, Announced | undefined>
  readonly alone: Set<Tag>
}

/** Takes the steps and demands of each process what the law says, after each of them. */
export async function runHistory(
  steps: readonly Step[],
  processes: readonly ModelledProcess[],
  pass: (ms: number) => void,
): Promise<void> {
  const log: (Entry | Heard | Answer)[] = []
  const questions: Question[] = []
  const writes: Write[] = []
  const epochs: string[] = []
  let nowMs = 0
  let asked = 0
  let asOfMs: number | undefined
  const pick = <T>(from: readonly T[], which: number): T | undefined => from[which % Math.max(from.length, 1)]
  const nameAt = (which: number) => pick(NAMES, which) ?? NAME
  const tagAt = (which: number) => pick(TAGS, which) ?? TAG
  const agrees = ({ isExact }: ModelledProcess, actual: boolean, lawful: boolean) =>
    isExact ? expect(actual).toBe(lawful) : expect(actual && !lawful).toBe(false)
  const processAt = (by: number) => by % processes.length
  const processOf = (by: number): ModelledProcess => processes[processAt(by)] ?? expect.unreachable()
  const underWay = () => (epochs.length > 0 ? epochs.length - 1 : undefined)

  const touches = (entry: Entry, name: RepositoryName, tag: Tag) =>
    entry.name === name && (entry.tags.length === 0 || entry.tags.includes(tag))
  const isAnswer = (entry: Entry): entry is Answer => entry.event === 'confirmation'
  const isHeard = (entry: Entry): entry is Heard => entry.event === 'heard'
  function latest(name: RepositoryName, tag: Tag): Answer | undefined {
    const entry = log.findLast((candidate) => touches(candidate, name, tag))
    return entry && isAnswer(entry) ? entry : undefined
  }
  /** Events of one thing, each less than a minute after the one before, say together what it is. */
  function chained(
    said: readonly { readonly said: Announced; readonly atMs: number }[],
  ): Announced | undefined {
    let held: { readonly said: Announced; readonly atMs: number } | undefined
    for (const each of said) {
      const isLate = held && each.atMs - held.atMs < SETTLED_MS
      held = isLate && held?.said !== each.said ? { ...each, said: 'disputed' } : each
    }
    return held && nowMs - held.atMs < SETTLED_MS ? held.said : undefined
  }
  function announced(name: RepositoryName, tag: Tag): Announced | undefined {
    const all = log.filter(isHeard).filter((entry) => entry.name === name)
    const of = all.flatMap(({ changes, atMs }) => changes.map((each) => ({ ...each, atMs })))
    const own = of.filter((each) => each.tag === tag)
    const beyond = of.filter((each) => !each.tag && (each.digest === undefined || each.digest === 'gone'))
    if (chained(beyond.map(({ atMs }) => ({ said: 'disputed', atMs })))) return 'disputed'
    return chained(own.map(({ digest, atMs }) => ({ said: digest ?? 'disputed', atMs })))
  }
  function isCovered({ name, digest, question }: Answer): boolean {
    if (asOfMs === undefined || nowMs - asOfMs > LIMITS.maxStalenessMs) return false
    if (question.epoch === undefined || question.epoch !== underWay()) return false
    if (question.announced !== undefined && question.announced !== digest) return false
    return !log.slice(question.logLength).some((entry) => isHeard(entry) && entry.name === name)
  }
  const ask = (by: number) => ({ by: processAt(by), order: ++asked, atMs: nowMs, epoch: underWay() })

  async function check(by: number, question: Question, digest: Digest): Promise<void> {
    const { name, tag } = question.observation
    const process = processOf(by)
    const since = log.slice(question.logLength)
    const unwritten = !since.some((entry) => !isAnswer(entry) && touches(entry, name, tag))
    const known = latest(name, tag)
    const isNewest = known === undefined || known.question.order <= question.order
    agrees(process, await process.freshness.stands(question.observation), unwritten && isNewest)
    const recorded = await process.freshness.confirm(question.observation, digest)
    agrees(process, recorded, unwritten && (isNewest || known.digest === digest))
    const isBesideWrite = writes.some((write) => touches({ ...write, event: 'write' }, name, tag))
    const answer = { event: 'confirmation', name, tags: [tag], digest, question, isBesideWrite } as const
    if (recorded && isNewest) log.push(answer)
  }

  async function begin(by: number, name: RepositoryName, tags: readonly Tag[]): Promise<void> {
    const alone = new Set(tags)
    for (const other of writes.filter((candidate) => candidate.name === name)) {
      for (const tag of TAGS) {
        if (other.tags.length === 0 || other.tags.includes(tag)) alone.delete(tag)
        if (tags.length === 0 || tags.includes(tag)) other.alone.delete(tag)
      }
    }
    const announcedOf = new Map(tags.map((tag) => [tag, announced(name, tag)]))
    const write = await processOf(by).freshness.beginWrite(name, tags)
    writes.push({ ...ask(by), write, name, tags, announced: undefined, announcedOf, alone })
    log.push({ event: 'write', name, tags })
  }

  async function end(ended: Write, digest: Digest): Promise<void> {
    const { by, name, tags, order, atMs } = ended
    writes.splice(writes.indexOf(ended), 1)
    const outcome = await processOf(by).freshness.endWrite(ended.write)
    log.push({ event: 'write', name, tags })
    expect(new Set(outcome.keys())).toEqual(ended.alone)
    const epoch = nowMs - atMs < SETTLED_MS ? ended.epoch : undefined
    const logLength = log.length
    for (const [tag, observation] of outcome) {
      const [said, ...others] = [ended.announcedOf.get(tag), announced(name, tag)].filter((each) => each)
      const both = others.some((other) => other !== said) ? 'disputed' : said
      await check(by, { observation, by, logLength, order, atMs, epoch, announced: both }, digest)
    }
  }

  async function hear(by: number, name: RepositoryName, changes: readonly HeardChange[]): Promise<void> {
    await processOf(by).freshness.hear(name, changes)
    const tags = changes.flatMap(({ tag }) => tag ?? [])
    const isAll = tags.length < changes.length
    log.push({ event: 'heard', name, tags: isAll ? [] : tags, changes, atMs: nowMs })
  }

  async function take(each: Step): Promise<void> {
    switch (each.do) {
      case 'wait':
        nowMs += each.ms
        pass(each.ms)
        // A follower tells of its watermark all the time; from so long ago it covers nothing, and lets time be noticed.
        return await advance(LONG_AGO_MS)
      case 'observe': {
        const [name, tag] = [nameAt(each.name), tagAt(each.tag)]
        const observation = await processOf(each.by).freshness.observe(name, tag)
        const question = { ...ask(each.by), logLength: log.length, announced: announced(name, tag) }
        questions.push({ observation, ...question })
        return
      }
      case 'confirm': {
        const question = pick(questions, each.which)
        if (question) await check(question.by, question, pick(DIGESTS, each.digest) ?? OLD)
        return
      }
      case 'begin':
        return await begin(each.by, nameAt(each.name), [...new Set(each.tags.map(tagAt))])
      case 'end': {
        const ended = pick(writes, each.which)
        if (ended) await end(ended, pick(DIGESTS, each.digest) ?? OLD)
        return
      }
      case 'hear': {
        const changes = each.changes.map(({ tag, said }) => ({
          tag: tag === null ? undefined : tagAt(tag),
          digest: typeof said === 'number' ? DIGESTS[said] : said === 'gone' ? ('gone' as const) : undefined,
        }))
        return await hear(0, nameAt(each.name), changes)
      }
      case 'epoch':
        epochs.push(await processOf(0).freshness.beginEpoch())
        asOfMs = undefined
        return
      case 'advance':
        await advance(each.agoMs)
        asOfMs = Math.max(asOfMs ?? Number.NEGATIVE_INFINITY, nowMs - each.agoMs)
    }
  }

  async function advance(agoMs: number): Promise<void> {
    const epoch = epochs.at(-1)
    const follower = processOf(0)
    if (epoch !== undefined) await follower.freshness.advance(epoch, follower.now() - agoMs)
  }

  async function compare(
    process: ModelledProcess,
    by: number,
    name: RepositoryName,
    tag: Tag,
  ): Promise<void> {
    const actual = await process.freshness.confirmed(name, tag)
    const known = latest(name, tag)
    const isTrusted = known?.question.by === by && nowMs - known.question.atMs < LIMITS.trustMs
    const isConfirmed = known && !known.isBesideWrite && (isTrusted || isCovered(known))
    const lawful = isConfirmed ? known.digest : undefined
    // Compared first: an expectation costs more than all the rest, and there are many.
    if (actual !== lawful && (process.isExact || actual !== undefined)) expect(actual).toBe(lawful)
  }

  for (const each of steps) {
    await take(each)
    await Promise.all(
      processes.flatMap((process, by) =>
        NAMES.flatMap((name) => TAGS.map(async (tag) => await compare(process, by, name, tag))),
      ),
    )
  }
}
