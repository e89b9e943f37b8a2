/**
 * The clients of a site, and its jobs: a tag is served from here when it is confirmed, and asked of the primary otherwise;
 * what is written goes to the primary. As proxy/{tag-resolver,keep-manifest,manifest-writes,deletes}.ts do.
 */
import { type Freshness, FreshnessUnavailableError, type Observation } from '../../src/freshness/freshness.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { type Change, type Primary, TAGS, type Version } from './watermark-model-primary.ts'
import type { Registry } from './watermark-model-registry.ts'
import type { Rules } from './watermark-model-rules.ts'
import type { VirtualTime } from './watermark-model-time.ts'

export interface Clients {
  /** Whether it was served from here. Throws `StaleError`. */
  pull(name: RepositoryName, tag: Tag): Promise<boolean>
  /** Lists the tags, as jobs do, and asks for all of them at once. */
  list(name: RepositoryName): Promise<void>
  write(change: Change): Promise<void>
}

export interface ClientsSeen {
  /** Pulls served from here by the watermark, and those that were asked of the primary. */
  covered: number
  asked: number
  /** Writes through the site that their clients were told of. */
  ownWrites: number
}

export interface ClientsDeps {
  readonly name: string
  readonly time: VirtualTime
  readonly rules: Rules
  readonly primary: Primary
  readonly registry: Registry
  readonly boundMs: number
  /** Of the processes there are now: any of them is asked. */
  readonly freshness: { readers(): readonly Freshness[] }
  /** Repositories of which something is here. */
  readonly held: Set<RepositoryName>
  /** Resolves once the site does not stand still. */
  readonly awake: () => Promise<void>
  readonly seen: ClientsSeen
}

/** Whoever waits longer for an answer has lost it. */
const ANSWER_MS = 90_000

export function createClients(deps: ClientsDeps): Clients {
  const { name, time, rules, primary, registry, boundMs, held, awake, seen } = deps
  /** What was written through the site, by tag. */
  const ownVersions = new Map<string, number>()

  async function reader(): Promise<Freshness | undefined> {
    await awake()
    const all = deps.freshness.readers()
    return all.length > 0 ? time.pick(all) : undefined
  }

  const isAlive = (freshness: Freshness) => deps.freshness.readers().includes(freshness)

  /** What the primary says, some time between question and answer; undefined: nothing, or that there is no such tag. */
  async function askPrimary<T>(read: () => T): Promise<T | undefined> {
    const slow = time.odds(0.1) ? time.pick([1_000, 5_000, 20_000]) : 50
    await time.sleep(time.between(0, slow))
    const said = registry.serving() ? read() : undefined
    await time.sleep(time.between(0, slow))
    return said
  }

  const shown = (repository: RepositoryName, tag: Tag, agoMs: number): Digest | undefined =>
    primary.read(repository, tag, agoMs)
  const behind = () => (rules.shownLateMs > 0 ? time.between(0, rules.shownLateMs) : 0)

  async function keep(by: Freshness, observation: Observation, digest: Digest | undefined): Promise<void> {
    if (digest === undefined || !isAlive(by)) return
    held.add(observation.name)
    if (!(await by.stands(observation))) return
    if (time.odds(0.3)) await time.sleep(time.between(0, 20))
    if (isAlive(by)) await by.confirm(observation, digest)
  }

  async function ask(by: Freshness, repository: RepositoryName, tag: Tag): Promise<void> {
    seen.asked += 1
    const observation = await by.observe(repository, tag)
    const agoMs = behind()
    await keep(by, observation, await askPrimary(() => shown(repository, tag, agoMs)))
  }

  /** Undefined: it failed, or its answer was lost. */
  async function forward(change: Change): Promise<readonly Version[] | undefined> {
    await time.sleep(time.between(0, 50))
    const instance = registry.serving()
    if (!instance) return undefined
    const { promise, resolve } = Promise.withResolvers<readonly Version[] | undefined>()
    registry.write(instance, change, resolve)
    const written = await Promise.race([promise, time.sleep(ANSWER_MS).then(() => undefined)])
    await time.sleep(time.between(0, time.odds(0.1) ? 5_000 : 50))
    return written
  }

  async function write(change: Change): Promise<void> {
    const by = await reader()
    if (!by) return
    const pending = await by.beginWrite(change.name, 'tag' in change ? [change.tag] : []).catch(unlessAway)
    if (!pending) return // Refused with 503.
    const written = await forward(change)
    await awake()
    if (!isAlive(by)) return
    const observations = await by.endWrite(pending)
    if (!written) return
    if (change.kind === 'push') {
      const observation = observations.get(change.tag)
      if (observation) await keep(by, observation, change.digest)
    }
    if (!isAlive(by)) return
    seen.ownWrites += 1
    for (const { name: repository, tag, number } of written) {
      const key = `${repository}:${tag}`
      ownVersions.set(key, Math.max(ownVersions.get(key) ?? 0, number))
    }
  }

  return {
    async pull(repository, tag) {
      const by = await reader()
      if (!by) return false
      const ownVersion = ownVersions.get(`${repository}:${tag}`) ?? 0
      const digest = await by.confirmed(repository, tag)
      if (digest === undefined) {
        await ask(by, repository, tag)
        return false
      }
      seen.covered += 1
      primary.expectFresh({ name: repository, tag, digest, boundMs, ownVersion, by: name })
      return true
    },
    async list(repository) {
      const by = await reader()
      if (!by) return
      const observations = await by.observeAll(repository, TAGS)
      const agoMs = behind()
      const said = await askPrimary(() => TAGS.map((tag) => [tag, shown(repository, tag, agoMs)] as const))
      await time.sleep(time.between(0, 10_000))
      for (const [tag, digest] of said ?? []) {
        const observation = observations.get(tag)
        if (observation) await keep(by, observation, digest)
      }
    },
    write,
  }
}

function unlessAway(error: unknown): undefined {
  if (!(error instanceof FreshnessUnavailableError)) throw error
}
