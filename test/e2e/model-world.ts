/**
 * What the model test runs against: a real site before a real primary with a line between them that can fail, and when
 * it did. Every run gets two repositories of its own; the processes and the blobs are shared by all.
 */
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { mintToken, repositoryAccess, signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { bearer } from '../support/login.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import type { Span } from './model-history.ts'
import { REALM } from './one-site.ts'

export type Outage = 'refuse' | 'black hole' | 'cut'

/** Of one run: who asks whom as what. */
export interface Clients extends AsyncDisposable {
  readonly names: readonly [string, string]
  /** Through the site, with a token to pull. */
  readonly reader: RegistryApi
  /** Through the site, with a token for everything. */
  readonly writer: RegistryApi
  /** Of the primary itself, with a token for everything. */
  readonly there: RegistryApi
}

export interface World extends AsyncDisposable {
  readonly site: GeoRegistry
  /** A moment after every one before. */
  tick(): number
  newClients(): Promise<Clients>
  begin(outage: Outage): void
  /** Resolves when the site runs and has found the primary again. */
  recover(): Promise<void>
  restart(how: 'gracefully' | 'kill'): Promise<void>
  /** Ends the process with what is in flight; `restart` and `recover` bring it back. */
  kill(): Promise<void>
  /** Whether the line was down for the site at any moment of the span. */
  wasAway(span: Span): boolean
  /** Whether nothing got through from before its start until after its end. */
  isAwayThroughout(span: Span): boolean
  /** Whether the site was not running at any moment of the span. */
  wasDown(span: Span): boolean
  /** Whether a machine under load made the site wait too long for a primary that was there: an outage all the same. */
  isExcused(span: Span): Promise<boolean>
}

interface Period {
  readonly start: number
  /** Until when nothing gets through; connections that are only cut let the next one through. */
  total: number
  end: number
}

/** Short, so that a black hole costs little; long against what a request takes here. */
const TIMEOUTS = { connect: '1s', tag: '1s', head: '1500ms', write: '1500ms' }

export async function startWorld(): Promise<World> {
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  const primary: DockerRegistry = starting.use(await startDockerRegistry({ auth }))
  const link: Link = starting.use(await startLink({ target: primary.url }))
  const site = starting.use(
    await startGeoRegistry({
      primary: link.url,
      auth,
      config: { upstream: { timeouts: TIMEOUTS }, storage: { minfree: '0%' } },
    }),
  )
  const away: Period[] = []
  const down: Period[] = []
  let now = 0
  let runs = 0
  let timeoutsBefore = 0
  let excusing: Promise<boolean> | undefined

  const isOpen = (periods: readonly Period[]) => periods.at(-1)?.end === Number.POSITIVE_INFINITY
  const open = (periods: Period[], total = 0, start = ++now): void => {
    if (!isOpen(periods)) periods.push({ start, total, end: Number.POSITIVE_INFINITY })
  }
  const close = (periods: Period[]): void => {
    const last = periods.at(-1)
    if (last && isOpen(periods)) last.end = ++now
  }
  const overlaps = (periods: readonly Period[], span: Span) =>
    periods.some(({ start, end }) => start < span.end && span.start < end)

  async function client(url: string, names: readonly string[], actions: readonly string[]) {
    const access = names.map((name) => repositoryAccess(name, actions))
    const authorization = bearer(await mintToken(key, { access, sub: 'user' }))
    return createRegistryApi(url, { authorize: () => authorization })
  }

  /** What the site counts of its own patience. */
  async function timeouts(): Promise<number> {
    const lines = (await site.metrics()).matchAll(
      /^geo_registry_upstream_requests_total.*"timeout"\} (\d+)$/gm,
    )
    return [...lines].reduce((sum, [, count]) => sum + Number(count), 0)
  }

  async function connected(): Promise<void> {
    await using probe = await client(site.url, ['probe'], ['pull', 'push'])
    const answers = async () => (await probe.headManifest('probe', 'none')).status === 404
    await until(answers, { what: 'the site to reach the primary', deadlineMs: 30_000 })
    const isClosed = async () => /^geo_registry_breaker_open 0$/m.test(await site.metrics())
    await until(isClosed, { what: 'held tags to be asked for again', deadlineMs: 30_000 })
    timeoutsBefore = await timeouts()
  }

  async function recover(): Promise<void> {
    const last = away.at(-1)
    if (last) last.total = Math.min(last.total, ++now)
    link.resume()
    await link.accept()
    if (isOpen(down)) {
      await site.start()
      close(down)
    }
    await connected()
    close(away)
  }

  async function excuse(span: Span): Promise<boolean> {
    if (isOpen(down) || (await timeouts()) === timeoutsBefore) return false
    open(away, 0, span.start)
    await recover()
    return true
  }

  const world: World = {
    site,
    tick: () => ++now,
    async newClients() {
      const names = [`run-${++runs}/a`, `run-${runs}/b`] as const
      const everything = ['pull', 'push', 'delete']
      const reader = await client(site.url, names, ['pull'])
      const writer = await client(site.url, names, everything)
      const there = await client(primary.url, names, everything)
      return {
        ...{ names, reader, writer, there },
        async [Symbol.asyncDispose]() {
          for (const api of [reader, writer, there]) await api[Symbol.asyncDispose]()
        },
      }
    },
    begin(outage) {
      if (isOpen(away)) return
      open(away, outage === 'cut' ? 0 : Number.POSITIVE_INFINITY)
      if (outage === 'black hole') link.blackhole()
      if (outage === 'refuse') link.refuse()
      if (outage !== 'black hole') link.cut()
    },
    recover,
    async kill() {
      open(down)
      await site.kill()
    },
    async restart(how) {
      const isRunning = !isOpen(down)
      open(down)
      if (isRunning) await (how === 'kill' ? site.kill() : site.stop())
      await site.start()
      close(down)
      timeoutsBefore = 0
    },
    wasAway: (span) => overlaps(away, span),
    isAwayThroughout: (span) => away.some(({ start, total }) => start < span.start && span.end < total),
    wasDown: (span) => overlaps(down, span),
    isExcused(span) {
      // What else is under way is late for the same reason.
      excusing ??= excuse(span).finally(() => {
        excusing = undefined
      })
      return excusing
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  await connected()
  const owned = starting.move()
  return world
}
