/**
 * Sends the canaries: to each address of the registry one a second over a connection of its own, a request that the
 * registry tells of in an event. What they prove is epochs.ts's. Nothing here is repeated sooner for having failed.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../src/log.ts'
import type { TokenSource } from '../../src/upstream/token-source.ts'
import { CANARY_TAG, createCanaryImage, pushCanaryImage } from './canary-image.ts'
import type { Epochs } from './epochs.ts'
import { type InstanceConnection, type InstanceTls, openInstanceConnection } from './instance-connection.ts'
import type { InstanceAddress } from './instances.ts'

export interface CanariesDeps {
  readonly epochs: Pick<Epochs, 'sending' | 'refused' | 'tick'>
  readonly tokens: TokenSource
  readonly log: Logger
}

export interface CanariesOptions {
  /** `relay.canary.repository`. */
  readonly repository: string
  /** `pull`: a HEAD of the canary image; `push`: its manifest is put again, where pulls make no events. */
  readonly kind: 'pull' | 'push'
  /** Between two canaries to one address; default 1000. */
  readonly intervalMs?: number | undefined
  /** Until a canary that has no answer counts as refused; default 2000. */
  readonly timeoutMs?: number | undefined
  readonly tls?: InstanceTls | undefined
}

export interface Canaries extends AsyncDisposable {
  /** The addresses canaries go to from now on. */
  set(addresses: readonly InstanceAddress[]): void
}

const TICK_MS = 250
/** After a push that failed: GitLab may ban an address that is refused 30 times in 3 minutes. */
const PUSH_REST_MS = 15_000

export function createCanaries({ epochs, tokens, log }: CanariesDeps, options: CanariesOptions): Canaries {
  const { repository, kind, intervalMs = 1_000, timeoutMs = 2_000, tls } = options
  const image = createCanaryImage()
  const pullScope = `repository:${repository}:pull`
  const pushScope = `repository:${repository}:pull,push`
  const scope = kind === 'push' ? pushScope : pullScope
  const senders = new Map<string, { readonly ended: Promise<void>; end(): void }>()
  const ticking = setInterval(() => epochs.tick(), TICK_MS).unref()
  let isPushing = false
  let noPushBeforeMs = Number.NEGATIVE_INFINITY

  /** The credential must be there within the time of a canary: one that is late is as good as refused. */
  async function authorize(wanted: string, signal: AbortSignal): Promise<string | undefined> {
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      return await tokens.authorization(wanted, AbortSignal.any([signal, deadline]))
    } catch (error) {
      if (!deadline.aborted) throw error
      throw new Error(`no token for ${wanted} within ${timeoutMs} ms`, { cause: error })
    }
  }

  async function sendCanary(to: InstanceAddress, connection: InstanceConnection, signal: AbortSignal) {
    let userAgent: string | undefined
    try {
      const authorization = await authorize(scope, signal)
      if (signal.aborted) return
      userAgent = epochs.sending(to.key)
      const { status } = await connection.send({
        ...(kind === 'pull'
          ? { method: 'HEAD', path: `/v2/${repository}/manifests/${image.digest}` }
          : { method: 'PUT', path: `/v2/${repository}/manifests/${CANARY_TAG}`, body: image.manifest }),
        headers: {
          authorization,
          'user-agent': userAgent,
          ...(kind === 'pull' ? { accept: image.mediaType } : { 'content-type': image.mediaType }),
        },
        timeoutMs,
      })
      if (signal.aborted || status === (kind === 'pull' ? 200 : 201)) return
      if (status === 401) tokens.refused(scope)
      epochs.refused(to.key, `it answered ${status}`, userAgent)
      // What a PUT is answered when blobs of it are not there differs; 400 is the specification's.
      if (status === 404 || (kind === 'push' && status === 400)) await pushOnce(to, connection, signal)
    } catch (error) {
      if (!signal.aborted) epochs.refused(to.key, textOf(error), userAgent)
    }
  }

  /** All processes hold the same: one push is enough. */
  async function pushOnce(to: InstanceAddress, connection: InstanceConnection, signal: AbortSignal) {
    if (isPushing || performance.now() < noPushBeforeMs) return
    isPushing = true
    try {
      await pushCanaryImage(connection, repository, await authorize(pushScope, signal))
      log.info({ instance: to.key, repository }, 'the canary image was not there and has been pushed')
    } catch (error) {
      if (signal.aborted) return
      noPushBeforeMs = performance.now() + PUSH_REST_MS
      tokens.refused(pushScope)
      log.error({ error, instance: to.key, repository }, 'canary image not pushed: there can be no watermark')
      throw error
    } finally {
      isPushing = false
    }
  }

  async function run(to: InstanceAddress, connection: InstanceConnection, signal: AbortSignal) {
    while (!signal.aborted) {
      const beganAtMs = performance.now()
      await sendCanary(to, connection, signal)
      const restMs = Math.max(0, intervalMs - (performance.now() - beganAtMs))
      // At the end it rejects, and the loop ends with it.
      await delay(restMs, undefined, { signal, ref: false }).catch(() => undefined)
    }
  }

  function start(to: InstanceAddress) {
    const ending = new AbortController()
    const connection = openInstanceConnection(to, tls)
    const end = () => {
      ending.abort()
      connection.close()
    }
    return { ended: run(to, connection, ending.signal), end }
  }

  return {
    set(addresses) {
      const named = new Map(addresses.map((address) => [address.key, address]))
      for (const [key, sender] of senders) {
        if (named.has(key)) continue
        sender.end()
        senders.delete(key)
      }
      for (const [key, address] of named) if (!senders.has(key)) senders.set(key, start(address))
    },
    async [Symbol.asyncDispose]() {
      clearInterval(ticking)
      const ended = [...senders.values()]
      for (const sender of ended) sender.end()
      senders.clear()
      await Promise.all(ended.map((sender) => sender.ended))
    },
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
