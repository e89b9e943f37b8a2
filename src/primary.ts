/** The one connection of a site to its primary: pool, breaker, the site's own credential, registry client. */
import { createTokenMinter } from './auth/token-minter.ts'
import type { UpstreamConfig } from './config.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import { type Breaker, createBreaker } from './upstream/breaker.ts'
import { createDispatcher, type Dispatcher } from './upstream/dispatcher.ts'
import { createRegistryClient } from './upstream/registry-client.ts'
import {
  createMintedTokenSource,
  createNoTokenSource,
  createPasswordTokenSource,
  type TokenSource,
} from './upstream/token-source.ts'
import type { Upstream } from './upstream/upstream.ts'

export interface PrimaryDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
}

export interface Primary {
  /** What clients cause goes through it. */
  readonly upstream: Upstream
  /** The same primary for what has asked for its place in the budget: its requests are not told again. */
  readonly budgeted: Upstream
  readonly breaker: Breaker
  /** The site's own credential, for what asks the primary past `upstream`. */
  readonly tokens: TokenSource
  /** From now on told of all bytes that arrive, and of the requests that clients cause. */
  onTraffic(listener: TrafficListener): void
  /** Opens a connection, so that the first client does not wait for one. */
  warm(): void
}

export type TrafficListener = (bytes: number, requests: number) => void

/** What is opened is the lifecycle's. Throws when the site's key cannot be read. */
export async function connectPrimary(config: UpstreamConfig, deps: PrimaryDeps): Promise<Primary> {
  const { log, metrics, lifecycle } = deps
  let told: TrafficListener = () => {}
  const dispatcher = createDispatcher(
    { ...deps, onBytes: (bytes) => told(bytes, 0) },
    dispatcherOptions(config),
  )
  lifecycle.own('connections to the primary', dispatcher.close)
  lifecycle.onReload('upstream.tls', dispatcher.reload)
  const breaker = createBreaker({ metrics, log, ping: dispatcher.ping })
  lifecycle.own('breaker', breaker.close)
  const tokens = await siteTokens(config, dispatcher, lifecycle)
  const client = createRegistryClient({ dispatcher, tokens, breaker })
  return {
    upstream: telling(client, () => told(0, 1)),
    budgeted: client,
    breaker,
    tokens,
    onTraffic(listener) {
      told = listener
    },
    warm: dispatcher.warm,
  }
}

function telling(upstream: Upstream, tell: () => void): Upstream {
  const after = <A extends unknown[], R>(ask: (...args: A) => R) => {
    return (...args: A): R => {
      tell()
      return ask(...args)
    }
  }
  return {
    origin: upstream.origin,
    getManifest: after(upstream.getManifest),
    confirmManifest: after(upstream.confirmManifest),
    confirmBlob: after(upstream.confirmBlob),
    getBlob(name, digest, ask) {
      // A fill for a copy has had its place in the budget.
      if (ask.credential.kind === 'caller') tell()
      return upstream.getBlob(name, digest, ask)
    },
    forward: after(upstream.forward),
  }
}

function dispatcherOptions({ origin, timeouts, tls, proxies }: UpstreamConfig) {
  const { connectMs, tagMs, headMs, writeMs, idleMs } = timeouts
  return {
    origin,
    timeouts: { connectMs, tagMs, headMs, writeMs, bodyIdleMs: idleMs },
    tls: { cafile: tls.caFile, certificatefile: tls.client?.certificateFile, keyfile: tls.client?.keyFile },
    proxy: { http: proxies.httpProxy, https: proxies.httpsProxy, no: proxies.noProxy },
  }
}

async function siteTokens(
  { auth }: UpstreamConfig,
  dispatcher: Dispatcher,
  lifecycle: Lifecycle,
): Promise<TokenSource> {
  if (!auth) return createNoTokenSource()
  if (auth.kind === 'key') {
    const minter = await createTokenMinter(auth)
    lifecycle.onReload('upstream.auth.keyfile', minter.reload)
    return createMintedTokenSource(minter.mint)
  }
  const login = () => ({ username: auth.username, password: auth.password.reveal() })
  return createPasswordTokenSource(dispatcher, { login, realm: auth.realm })
}
