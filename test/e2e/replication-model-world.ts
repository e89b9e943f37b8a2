/**
 * What the replication model runs against: a real primary, a site that keeps itself in step with it, and between them a
 * line and a postman that fail. Every story gets repositories of its own; processes and blobs are shared by all.
 */
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import type { Span } from './model-history.ts'
import { type ReplicatedSite, SECRET, startReplicatedSite } from './replicated-site.ts'
import { type EventPost, startEventPost } from './replication-model-events.ts'
import type { Step } from './replication-model-steps.ts'

type How<Name extends Step['do']> = Extract<Step, { do: Name; how: string }>['how']

export interface Clients {
  /** By `Repository`. */
  readonly names: readonly string[]
  /** Through the site, with a token to pull. */
  readonly reader: RegistryApi
  /** Through the site, with a token for everything. */
  readonly writer: RegistryApi
  /** Of the primary itself. */
  readonly there: RegistryApi
}

export interface World extends AsyncDisposable {
  readonly site: ReplicatedSite
  readonly post: EventPost
  /** A moment after every one before. */
  tick(): number
  newClients(): Promise<Clients>
  link(how: How<'link'>): Promise<void>
  run(how: How<'site'>): Promise<void>
  jobs(how: How<'jobs'>): Promise<void>
  /** Everything works again; what may have been lost stays lost. */
  mend(): Promise<void>
  /** Whether nothing gets through to the primary, or the site does not run. */
  readonly isAway: boolean
  readonly isDown: boolean
  /** Whether the site was not running at any moment of the span. */
  wasDown(span: Span): boolean
}

/** Short, so that a black hole costs little; long against what a request takes here. */
const CONFIG = {
  upstream: { timeouts: { connect: '1s', tag: '1s', head: '1500ms', write: '1500ms', idle: '2s' } },
  storage: { minfree: '0%' },
  // What no event told of is found within seconds.
  digests: { recheck: '2s' },
  replication: { reconcile: '3s' },
}

export async function startWorld(): Promise<World> {
  await using starting = new AsyncDisposableStack()
  const site = starting.use(await startReplicatedSite({ repositories: [], notified: false, config: CONFIG }))
  const post = starting.use(await startEventPost(site.eventsUrl))
  const endpoint = { name: 'geo-registry', url: post.url, timeout: '2s', threshold: 5, backoff: '100ms' }
  await site.primary.restart({
    notifications: { endpoints: [{ ...endpoint, headers: { Authorization: [SECRET] } }] },
  })
  const { one, link, primary } = site
  // Its first look at the primary may have met none.
  await one.site.restart()
  const down: { start: number; end: number }[] = []
  let now = 0
  let stories = 0
  let isCut = false

  const isDown = () => down.at(-1)?.end === Number.POSITIVE_INFINITY
  async function end(how: 'gracefully' | 'kill'): Promise<void> {
    if (isDown()) return
    down.push({ start: ++now, end: Number.POSITIVE_INFINITY })
    await (how === 'kill' ? one.site.kill() : one.site.stop())
  }
  async function start(): Promise<void> {
    const last = down.at(-1)
    if (!last || !isDown()) return
    await one.site.start()
    last.end = ++now
  }

  const world: World = {
    site,
    post,
    tick: () => ++now,
    async newClients() {
      const base = `story-${++stories}`
      const names = [`${base}/a`, `${base}/a/below`, `${base}/b`, `${base}/b/below`]
      const grant = (...actions: string[]) => Object.fromEntries(names.map((name) => [name, actions]))
      return {
        names,
        reader: await one.client(grant('pull')),
        writer: await one.client(grant('pull', 'push', 'delete')),
        there: await one.client(grant('pull', 'push', 'delete'), primary.url),
      }
    },
    async link(how) {
      if (how === 'cut') return link.cut()
      isCut = how !== 'mend'
      if (how === 'black hole') return link.blackhole()
      if (how === 'refuse') {
        link.refuse()
        return link.cut()
      }
      link.resume()
      await link.accept()
    },
    async run(how) {
      if (how === 'restart' || how === 'stop') await end('gracefully')
      else if (how !== 'start') await end('kill')
      if (how !== 'stop' && how !== 'kill') await start()
    },
    async jobs(how) {
      if (!isDown()) await site.admin('POST', `/${how}`)
    },
    async mend() {
      await world.link('mend')
      await start()
      post.behave('pass')
      await post.release()
      await world.jobs('resume')
      const isClosed = async () => /^geo_registry_breaker_open 0$/m.test(await one.site.metrics())
      await until(isClosed, { what: 'the site to reach the primary', deadlineMs: 30_000 })
    },
    get isAway() {
      return isCut || isDown()
    },
    get isDown() {
      return isDown()
    },
    wasDown: (span) => down.some((period) => period.start < span.end && span.start < period.end),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  const owned = starting.move()
  return world
}
