/**
 * A registry of several processes, its relay and two sites, in a time of their own: steps are played, clients pull all
 * the while, and each tag that is served by the watermark is held against what the primary acknowledged.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { createLogger } from '../../src/log.ts'
import { idleDeps } from '../replicator/inbox-world.ts'
import { createMemoryDisk, type Disk } from './watermark-model-log.ts'
import { APP, BUSY, createPrimary, newDigest, REPOSITORIES, TAGS } from './watermark-model-primary.ts'
import { createRegistry, type Registry } from './watermark-model-registry.ts'
import { createRelay, type Relay } from './watermark-model-relay.ts'
import { ALL_HOLD, type Rules } from './watermark-model-rules.ts'
import {
  createSite,
  inOneProcess,
  type Site,
  type SiteFreshness,
  type SiteSeen,
} from './watermark-model-site.ts'
import type { Setting, Step } from './watermark-model-steps.ts'
import { createVirtualTime, type VirtualTime } from './watermark-model-time.ts'
import { createTroubles } from './watermark-model-troubles.ts'

export interface Seen extends SiteSeen {
  writes: number
  dropped: number
  givenUp: number
  repeated: number
  crashes: number
}

export interface World {
  readonly time: VirtualTime
  readonly relay: Relay
  readonly registry: Registry
  readonly sites: readonly Site[]
  readonly seen: Seen
  take(step: Step): Promise<void>
  /** Everything is mended, and after a quiet time every tag is served from here. Throws what is not. */
  recover(): Promise<void>
  /** Ends what runs. */
  close(): Promise<void>
}

export interface WorldOptions {
  readonly rules?: Partial<Rules>
  /** Where the relay's log lies; default in memory. */
  readonly disk?: (time: VirtualTime) => Disk
  /** Default in memory, of one process. */
  readonly freshness?: (site: string, time: VirtualTime, boundMs: number) => SiteFreshness
}

/** Longer than everything lasts that was ever begun: a write, a question, the minute of what was announced. */
const QUIET_MS = 80_000
const PULL_MS = 100
export const SITES = ['tokyo', 'lima'] as const
const idle = idleDeps()
const log = createLogger({ destination: { write: () => undefined } })

export async function startWorld(
  { seed, instances, boundMs }: Setting,
  options: WorldOptions = {},
): Promise<World> {
  const rules: Rules = { ...ALL_HOLD, ...options.rules }
  const time = createVirtualTime(seed)
  const seen: Seen = {
    ...{ covered: 0, asked: 0, ownWrites: 0, compared: 0, lost: 0, repeatedPages: 0 },
    ...{ writes: 0, dropped: 0, givenUp: 0, repeated: 0, crashes: 0 },
  }
  const disk = options.disk?.(time) ?? createMemoryDisk(time)
  const freshness = (site: string) => options.freshness?.(site, time, boundMs) ?? inOneProcess(boundMs)
  const primary = createPrimary(() => time.nowMs)
  const relay: Relay = createRelay({ time, rules, disk, registry: () => registry })
  const registry: Registry = createRegistry(instances, { time, primary, rules, post: relay.post, seen })
  const sites = SITES.map((name) =>
    createSite(name, { time, rules, primary, registry, relay, idle, log, boundMs, seen, freshness }),
  )
  let images = 0
  const newImage = () => newDigest(images++)
  let isQuiet = false

  const siteAt = (which: number): Site => sites[which % sites.length] ?? fail()
  const fail = (): never => {
    throw new Error('the model is wrong: no such site')
  }

  async function pullNow(site: Site): Promise<void> {
    while (!isQuiet) {
      await time.sleep(time.between(0, 2 * PULL_MS))
      const name = time.odds(0.5) ? APP : time.pick(REPOSITORIES)
      time.go(async () => void (await site.pull(name, time.pick(TAGS))))
    }
  }

  const troubles = createTroubles({ time, primary, registry, relay, disk, siteAt, newImage })

  async function take(step: Step): Promise<void> {
    switch (step.do) {
      case 'write':
        return troubles.write(step.write, registry.at(step.instance))
      case 'burst': {
        const instance = registry.at(step.instance)
        for (let count = 0; count < step.count; count++) {
          registry.write(instance, {
            kind: 'push',
            name: BUSY,
            tag: time.pick(TAGS),
            digest: newImage(),
          })
        }
        await time.pass(time.between(0, 50))
        return troubles.write({ ...step.write, via: undefined }, instance)
      }
      case 'list':
        return time.go(() => siteAt(step.site).list(REPOSITORIES[step.name] ?? APP))
      case 'trouble':
        return await troubles.begin(step)
      case 'wait':
        return await time.pass(step.ms)
    }
  }

  async function recover(): Promise<void> {
    // What was begun ends by itself.
    await time.pass(25_000)
    isQuiet = true
    await time.pass(75_000)
    for (const instance of registry.instances) {
      Object.assign(instance, { line: instance.usualLine, canaryDelayMs: 5 })
      if (instance.isNamed) registry.start(instance)
    }
    if (!registry.serving()) registry.join(registry.at(0))
    await relay.start()
    for (const site of sites) site.start()
    await time.pass(QUIET_MS)
    const there = sites
      .flatMap((site) => REPOSITORIES.flatMap((name) => TAGS.map((tag) => ({ site, name, tag, served: 0 }))))
      .filter(({ name, tag }) => primary.read(name, tag) !== undefined)
    const pullAll = () => {
      for (const each of there) {
        time.go(async () => {
          if (await each.site.pull(each.name, each.tag)) each.served += 1
        })
      }
    }
    pullAll()
    await time.pass(50_000)
    // Far away the watermark may at times be older than a short bound.
    for (let times = 0; times < 20; times++) {
      pullAll()
      await time.pass(170)
    }
    const never = there.find(({ served }) => served === 0)
    if (never)
      throw new Error(
        `in the quiet ${never.site.name} did not serve ${never.name}:${never.tag}: ${await state()}`,
      )
  }

  async function state(): Promise<string> {
    return JSON.stringify({
      relay: { note: relay.note(), mark: relay.watermark(), ends: relay.ends() },
      sites: await Promise.all(sites.map(async (site) => [await site.watermarkAgeMs(), site.status()])),
    })
  }

  for (const name of REPOSITORIES.slice(0, 3)) {
    for (const tag of TAGS)
      primary.acknowledge(primary.write({ kind: 'push', name, tag, digest: newImage() }) ?? [])
  }
  await relay.start()
  for (const site of sites) {
    site.start()
    time.go(() => pullNow(site))
  }
  return {
    time,
    relay,
    registry,
    sites,
    seen,
    take,
    recover,
    async close() {
      for (const site of sites) await site.close()
      await relay.crash()
      await turn()
    },
  }
}
