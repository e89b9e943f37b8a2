import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Observation, PendingWrite } from '../../src/freshness/freshness.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'

const repository = (text: string): RepositoryName => parseRepositoryName(text) ?? expect.unreachable()
const tagNamed = (text: string): Tag => parseTag(text) ?? expect.unreachable()
const NAMES = ['a', 'a/b'].map(repository)
const TAGS = ['v1', 'v2', 'latest'].map(tagNamed)
const DIGESTS = ['x', 'y'].map((text) => digestOf(Buffer.from(text)))
const [NAME = repository('a'), OTHER_NAME = repository('b')] = NAMES
const [TAG = tagNamed('v1'), OTHER_TAG = tagNamed('v2')] = TAGS
const [OLD = digestOf(Buffer.from('x')), NEW = digestOf(Buffer.from('y'))] = DIGESTS

function at(nowMs: { value: number }, trustMs?: number, maxEntries?: number) {
  return createMemoryFreshness({ trustMs, maxEntries, now: () => nowMs.value })
}

describe('a tag', () => {
  it('is never confirmed where nothing is trusted, which is the default, however it was answered', () => {
    const freshness = createMemoryFreshness()

    expect(freshness.confirm(freshness.observe(NAME, TAG), OLD)).toBe(true)

    expect(freshness.confirmed(NAME, TAG)).toBe(undefined)
  })

  it('is trusted from when the primary was asked, not from when it answered', () => {
    const now = { value: 0 }
    const freshness = at(now, 1000)
    const observation = freshness.observe(NAME, TAG)
    now.value = 600
    freshness.confirm(observation, OLD)

    now.value = 999
    expect(freshness.confirmed(NAME, TAG)).toBe(OLD)
    now.value = 1000
    expect(freshness.confirmed(NAME, TAG)).toBe(undefined)
  })

  it('is not written by an answer that a push overtook, begun or ended in between', () => {
    const freshness = at({ value: 0 }, 1000)
    const before = freshness.observe(NAME, TAG)
    const write = freshness.beginWrite(NAME, [TAG])
    const during = freshness.observe(NAME, TAG)
    expect([freshness.stands(before), freshness.confirm(before, OLD)]).toEqual([false, false])
    expect(freshness.stands(during)).toBe(true)

    freshness.endWrite(write)

    expect([freshness.stands(during), freshness.confirm(during, OLD)]).toEqual([false, false])
    expect(freshness.confirmed(NAME, TAG)).toBe(undefined)
  })

  it('is confirmed by the 201 of its own push, and not when another push of it was under way', () => {
    const freshness = at({ value: 0 }, 1000)
    const [own] = [...freshness.endWrite(freshness.beginWrite(NAME, [TAG])).values()]
    expect(own && freshness.confirm(own, NEW)).toBe(true)
    expect(freshness.confirmed(NAME, TAG)).toBe(NEW)

    const first = freshness.beginWrite(NAME, [TAG, OTHER_TAG])
    const second = freshness.beginWrite(NAME, [TAG])
    expect([...freshness.endWrite(first).keys()]).toEqual([OTHER_TAG])
    expect([...freshness.endWrite(second).keys()]).toEqual([])
  })

  it('loses its confirmation, as all tags of its repository do, by a delete of a digest, and others keep theirs', () => {
    const freshness = at({ value: 0 }, 1000)
    for (const name of NAMES) for (const tag of TAGS) freshness.confirm(freshness.observe(name, tag), OLD)
    const asked = freshness.observe(NAME, TAG)
    const push = freshness.beginWrite(NAME, [TAG])

    const deletion = freshness.beginWrite(NAME, [])

    expect(TAGS.map((tag) => freshness.confirmed(NAME, tag))).toEqual([undefined, undefined, undefined])
    expect(freshness.confirmed(OTHER_NAME, TAG)).toBe(OLD)
    expect(freshness.stands(asked)).toBe(false)
    expect(freshness.endWrite(push).size).toBe(0)
    expect(freshness.endWrite(deletion).size).toBe(0)
  })

  it('loses its confirmation, and every answer on its way, by an event that names it or its repository', () => {
    const freshness = at({ value: 0 }, 1000)
    const confirmAll = () => {
      for (const name of NAMES) for (const tag of TAGS) freshness.confirm(freshness.observe(name, tag), OLD)
    }
    const held = (name: RepositoryName) => TAGS.map((tag) => freshness.confirmed(name, tag))

    confirmAll()
    const asked = freshness.observe(NAME, TAG)
    freshness.renew(NAME, [TAG])
    expect(held(NAME)).toEqual([undefined, OLD, OLD])
    expect([freshness.stands(asked), freshness.confirm(asked, OLD)]).toEqual([false, false])

    confirmAll()
    const otherAsked = freshness.observe(NAME, OTHER_TAG)
    freshness.renew(NAME, [])
    expect(held(NAME)).toEqual([undefined, undefined, undefined])
    expect([freshness.stands(otherAsked), freshness.confirm(otherAsked, OLD)]).toEqual([false, false])
    expect(held(OTHER_NAME)).toEqual([OLD, OLD, OLD])
  })

  it('is still confirmed by the 201 of its own push when the event of that push came before the answer', () => {
    const freshness = at({ value: 0 }, 1000)
    const write = freshness.beginWrite(NAME, [TAG])
    freshness.renew(NAME, [TAG])

    const [own] = [...freshness.endWrite(write).values()]

    expect(own && freshness.confirm(own, NEW)).toBe(true)
    expect(freshness.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('keeps the answer that was asked for later when an earlier one comes in last', () => {
    const now = { value: 0 }
    const freshness = at(now, 1000)
    const earlier = freshness.observe(NAME, TAG)
    now.value = 1
    const later = freshness.observe(NAME, TAG)

    expect(freshness.confirm(later, NEW)).toBe(true)

    expect([freshness.stands(earlier), freshness.confirm(earlier, OLD)]).toEqual([false, false])
    expect(freshness.confirm(earlier, NEW)).toBe(true)
    now.value = 1000
    expect(freshness.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('tells the outcome of a write once', () => {
    const freshness = at({ value: 0 }, 1000)
    const write = freshness.beginWrite(NAME, [TAG])

    expect(freshness.endWrite(write).size).toBe(1)
    expect(freshness.endWrite(write).size).toBe(0)
  })

  it('has generations nobody can guess or meet again', () => {
    const freshness = createMemoryFreshness()
    const seen = new Set<string>()
    for (let turn = 0; turn < 100; turn++) {
      freshness.endWrite(freshness.beginWrite(NAME, [TAG]))
      freshness.endWrite(freshness.beginWrite(NAME, []))
      const { tagGeneration, repositoryGeneration } = freshness.observe(NAME, TAG)
      expect(tagGeneration).toMatch(/^[0-9a-f]{32}$/)
      seen.add(tagGeneration).add(repositoryGeneration)
    }
    expect(seen.size).toBe(200)
  })
})

/** One step of a history; indices are taken modulo what there is. */
type Step =
  | { readonly do: 'observe'; readonly name: number; readonly tag: number }
  | { readonly do: 'confirm'; readonly which: number; readonly digest: number }
  | { readonly do: 'begin'; readonly name: number; readonly tags: number[] }
  | { readonly do: 'end'; readonly which: number; readonly digest: number }
  | { readonly do: 'event'; readonly name: number; readonly tags: number[] }
  | { readonly do: 'wait'; readonly ms: number }

const index = fc.nat({ max: 20 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('observe' as const), name: index, tag: index }),
  fc.record({ do: fc.constant('confirm' as const), which: index, digest: index }),
  fc.record({ do: fc.constant('begin' as const), name: index, tags: fc.array(index, { maxLength: 2 }) }),
  fc.record({ do: fc.constant('end' as const), which: index, digest: index }),
  fc.record({ do: fc.constant('event' as const), name: index, tags: fc.array(index, { maxLength: 2 }) }),
  fc.record({ do: fc.constant('wait' as const), ms: fc.nat({ max: 60 }) }),
)

/** The law as a log that is searched from the start each time: slow, forgetful of nothing, plainly right. */
interface Entry {
  readonly event: 'write' | 'confirmation'
  readonly name: RepositoryName
  readonly tags: readonly Tag[]
  readonly digest?: Digest
  readonly startedAtMs?: number
}
interface ModelObservation {
  readonly observation: Observation
  readonly logLength: number
}
interface ModelWrite {
  readonly write: PendingWrite
  readonly name: RepositoryName
  readonly tags: readonly Tag[]
  readonly alone: Set<Tag>
}

const TRUST_MS = 100

/** Runs a history against freshness and model; `exact` also demands what may be forgotten. */
function run(steps: readonly Step[], maxEntries: number, exact: boolean): void {
  const now = { value: 0 }
  const freshness = at(now, TRUST_MS, maxEntries)
  const log: Entry[] = []
  const observations: ModelObservation[] = []
  const writes: ModelWrite[] = []
  const pick = <T>(from: readonly T[], which: number): T | undefined => from[which % Math.max(from.length, 1)]
  const agrees = (actual: boolean, lawful: boolean) =>
    exact ? expect(actual).toBe(lawful) : expect(actual && !lawful).toBe(false)

  const touches = (entry: Entry, name: RepositoryName, tag: Tag) =>
    entry.name === name && (entry.tags.length === 0 || entry.tags.includes(tag))
  const latest = (name: RepositoryName, tag: Tag): Entry | undefined => {
    const entry = log.findLast((candidate) => touches(candidate, name, tag))
    return entry?.event === 'confirmation' ? entry : undefined
  }
  const unwritten = ({ observation: { name, tag }, logLength }: ModelObservation) =>
    !log.slice(logLength).some((entry) => entry.event === 'write' && touches(entry, name, tag))
  const check = (seen: ModelObservation, digest: Digest) => {
    const { name, tag, startedAtMs } = seen.observation
    const known = latest(name, tag)
    const newest = known === undefined || (known.startedAtMs ?? 0) <= startedAtMs
    agrees(freshness.stands(seen.observation), unwritten(seen) && newest)
    const recorded = freshness.confirm(seen.observation, digest)
    agrees(recorded, unwritten(seen) && (newest || known.digest === digest))
    if (recorded && newest) log.push({ event: 'confirmation', name, tags: [tag], digest, startedAtMs })
  }

  for (const each of steps) {
    if (each.do === 'wait') now.value += each.ms
    if (each.do === 'observe') {
      const observation = freshness.observe(pick(NAMES, each.name) ?? NAME, pick(TAGS, each.tag) ?? TAG)
      observations.push({ observation, logLength: log.length })
    }
    if (each.do === 'confirm') {
      const seen = pick(observations, each.which)
      if (seen) check(seen, pick(DIGESTS, each.digest) ?? OLD)
    }
    if (each.do === 'begin') {
      const name = pick(NAMES, each.name) ?? NAME
      const tags = [...new Set(each.tags.map((tag) => pick(TAGS, tag) ?? TAG))]
      const alone = new Set(tags)
      for (const other of writes.filter((candidate) => candidate.name === name)) {
        for (const tag of TAGS) {
          if (other.tags.length === 0 || other.tags.includes(tag)) alone.delete(tag)
          if (tags.length === 0 || tags.includes(tag)) other.alone.delete(tag)
        }
      }
      writes.push({ write: freshness.beginWrite(name, tags), name, tags, alone })
      log.push({ event: 'write', name, tags })
    }
    if (each.do === 'event') {
      const name = pick(NAMES, each.name) ?? NAME
      const tags = each.tags.map((tag) => pick(TAGS, tag) ?? TAG)
      freshness.renew(name, tags)
      log.push({ event: 'write', name, tags })
    }
    if (each.do === 'end') {
      const ended = pick(writes, each.which)
      if (!ended) continue
      writes.splice(writes.indexOf(ended), 1)
      const outcome = freshness.endWrite(ended.write)
      log.push({ event: 'write', name: ended.name, tags: ended.tags })
      expect(new Set(outcome.keys())).toEqual(ended.alone)
      for (const observation of outcome.values()) {
        check({ observation, logLength: log.length }, pick(DIGESTS, each.digest) ?? OLD)
      }
    }
    for (const name of NAMES) {
      for (const tag of TAGS) {
        const known = latest(name, tag)
        const lawful = known && now.value - (known.startedAtMs ?? 0) < TRUST_MS ? known.digest : undefined
        const actual = freshness.confirmed(name, tag)
        if (exact || actual !== undefined) expect(actual).toBe(lawful)
      }
    }
  }
}

describe('any history of questions, answers, pushes, deletes and events', () => {
  it('confirms exactly what the law confirms', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => run(steps, 1000, true)),
      { numRuns: 2000 },
    )
  })

  it('confirms nothing more where most of it has to be forgotten', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => run(steps, 1, false)),
      { numRuns: 2000 },
    )
  })
})
