/** A site: the real follower, inbox and freshness, in a process that dies, stands still and forgets. */
import { createFollower, type Follower } from '../../replicator/follower.ts'
import { createInbox, type InboxDeps } from '../../replicator/inbox.ts'
import type { Epochs, Freshness } from '../../src/freshness/freshness.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { type Clients, type ClientsDeps, type ClientsSeen, createClients } from './watermark-model-clients.ts'
import { connectSite, type SiteLine } from './watermark-model-line.ts'
import type { Relay } from './watermark-model-relay.ts'

export interface SiteSeen extends ClientsSeen {
  compared: number
  lost: number
  repeatedPages: number
}

export interface Site extends Clients {
  readonly name: string
  readonly line: SiteLine
  isDatabaseAway: boolean
  /** What its wall clock shows too much. */
  wallClockMs: number
  start(): void
  /** `losesCursor`: with its tracking database. */
  crash(losesCursor: boolean): void
  pause(ms: number): void
  watermarkAgeMs(): Promise<number | undefined>
  status(): ReturnType<Follower['status']> | undefined
  close(): Promise<void>
}

export interface SiteDeps extends Omit<ClientsDeps, 'name' | 'freshness' | 'held' | 'awake' | 'seen'> {
  readonly relay: Relay
  readonly freshness: (site: string) => SiteFreshness
  /** Ports of the inbox that the model has no part in. */
  readonly idle: InboxDeps
  readonly log: InboxDeps['log']
  readonly seen: SiteSeen
}

/** The freshness of a site's processes. */
export interface SiteFreshness {
  /** Of a process that is about to follow the relay; the one before is dead. */
  follow(now: () => number): Freshness & Epochs
  /** Of those that clients ask now. */
  readers(): readonly Freshness[]
  /** The following process is dead. */
  kill(): void
  close(): Promise<void>
}

/** One process does it all, and what it knows dies with it. */
export function inOneProcess(maxStalenessMs: number): SiteFreshness {
  let current: (Freshness & Epochs) | undefined
  return {
    follow(now) {
      current = createMemoryFreshness({ maxStalenessMs, now })
      return current
    },
    readers: () => (current ? [current] : []),
    kill() {
      current = undefined
    },
    close: async () => undefined,
  }
}

export function createSite(name: string, deps: SiteDeps): Site {
  const { time, rules, relay, idle, log, seen } = deps
  const freshness = deps.freshness(name)
  const cursors = new Map<string, string>()
  const held = new Set<RepositoryName>()
  let current: { readonly follower: Follower; readonly mine: Freshness } | undefined
  let stillUntilMs = 0

  async function awake(): Promise<void> {
    while (time.nowMs < stillUntilMs) await time.sleep(stillUntilMs - time.nowMs + time.between(0, 5))
  }

  function trackingOf(isAlive: () => boolean) {
    const reach = async () => {
      // What a dead process began has no end.
      if (!isAlive()) await new Promise(() => undefined)
      if (site.isDatabaseAway) throw new Error('the database is away')
    }
    return {
      async cursor(key: string) {
        await reach()
        return cursors.get(key)
      },
      async setCursor(key: string, value: string) {
        await reach()
        cursors.set(key, value)
      },
      async accept() {
        await reach()
        return []
      },
    }
  }

  function start(): void {
    if (current) return
    const startedAtMs = time.nowMs
    const offsetMs = time.between(0, 1e6)
    const now = () => offsetMs + (time.nowMs - startedAtMs) * rules.siteClockRate
    const mine = freshness.follow(now)
    const isAlive = () => current?.mine === mine
    const tracking = trackingOf(isAlive)
    const connection = connectSite({ time, rules, relay, line: site.line, site: name, now, seen })
    const inbox = createInbox(
      {
        ...idle,
        tracking: { ...idle.tracking, ...tracking },
        freshness: mine,
        holdings: {
          dropComplete: async () => undefined,
          async *repositories(_, under) {
            yield* [...held].filter((each) => each.startsWith(under ?? ''))
          },
        },
      },
      { now: () => time.nowMs + site.wallClockMs },
    )
    const follower = createFollower(
      {
        client: {
          url: 'https://relay.example.com',
          async ask(question) {
            try {
              return await connection.ask(question)
            } finally {
              await awake()
              // What a dead process began has no end.
              if (!isAlive()) await new Promise(() => undefined)
            }
          },
        },
        inbox,
        tracking,
        freshness: mine,
        reconciler: {
          async compareEverything() {
            seen.compared += 1
          },
        },
        log,
      },
      {
        now,
        async rest(restMs) {
          await time.sleep(restMs)
          await awake()
          if (!isAlive()) await new Promise(() => undefined)
        },
      },
    )
    current = { follower, mine }
    follower.start()
  }

  const site: Site = {
    name,
    line: { delayMs: time.pick([20, 100, 250]), isCut: false, losing: 0, repeating: 0 },
    isDatabaseAway: false,
    wallClockMs: 0,
    start,
    crash(losesCursor) {
      if (losesCursor) cursors.clear()
      if (!current) return
      void current.follower.close()
      current = undefined
      freshness.kill()
    },
    pause(ms) {
      stillUntilMs = Math.max(stillUntilMs, time.nowMs + ms)
    },
    ...createClients({ ...deps, name, freshness, held, awake }),
    watermarkAgeMs: async () => (await current?.mine.watermark())?.ageMs,
    status: () => current?.follower.status(),
    async close() {
      site.crash(false)
      await freshness.close()
    },
  }
  return site
}
