/** The two connections that fill leases need: one that asks, and one that listens. */
import { Redis } from 'ioredis'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import { askingOptions, type RedisUrl } from '../redis-connection.ts'

export interface FillLink {
  /** Runs a script on the two keys of a digest. Rejects within a second while Redis is away, at once when that is known. */
  run(script: string, digest: Digest, ...args: readonly (string | number)[]): Promise<unknown>
  /** Best effort. */
  say(channel: string, text: string): void
  /** `onListening` is called each time the channel is heard from then on: what was said before was missed. */
  listen(channel: string, onText: (text: string) => void, onListening?: () => void): () => void
  newsChannel(digest: Digest): string
  wantChannel(digest: Digest): string
  close(): void
}

interface Ear {
  readonly onText: (text: string) => void
  readonly onListening: (() => void) | undefined
}

const COMMAND_TIMEOUT_MS = 1000
/** How often a subscription is asked whether it is still there: by itself it says nothing. */
const PING_MS = 2000

/** `prefix` begins every key and channel. Throws when the URL is none. */
export function createFillLink(log: Logger, url: RedisUrl, prefix: string): FillLink {
  const options = {
    ...askingOptions(url),
    commandTimeout: COMMAND_TIMEOUT_MS,
    // A command that waited for Redis to come back would do what nobody wants any more.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
  }
  const asking = new Redis(options)
  const listening = new Redis({ ...options, autoResubscribe: false })
  const ears = new Map<string, Set<Ear>>()
  const firstReady = Promise.withResolvers<void>()
  let saidAway = false
  let closed = false

  asking.on('error', report)
  listening.on('error', report)
  asking.on('ready', () => firstReady.resolve())
  listening.on('ready', () => {
    for (const channel of ears.keys()) void subscribe(channel)
  })
  listening.on('message', (channel: string, text: string) => {
    for (const { onText } of [...(ears.get(channel) ?? [])]) onText(text)
  })
  // At the start everything waits for the first connection; it is not away until it has had its time.
  const patience = setTimeout(() => firstReady.resolve(), COMMAND_TIMEOUT_MS).unref()
  const pinging = setInterval(() => {
    if (listening.status === 'ready') listening.ping().catch(reconnect)
  }, PING_MS).unref()

  /** Every attempt of both connections fails while Redis is away: said once. */
  function report(error: unknown): void {
    if (saidAway || closed) return
    saidAway = true
    log.warn(
      { error },
      'Redis cannot be reached: blobs that are not here are served from the primary and not kept until it can',
    )
  }

  function answered(): void {
    if (saidAway) log.info('Redis answers again: what is fetched is kept')
    saidAway = false
  }

  function reconnect(error: unknown): void {
    report(error)
    if (!closed && listening.status === 'ready') listening.disconnect(true)
  }

  async function subscribe(channel: string): Promise<void> {
    if (listening.status !== 'ready') return // It is done when it is.
    try {
      await listening.subscribe(channel)
      for (const { onListening } of [...(ears.get(channel) ?? [])]) onListening?.()
    } catch (error) {
      reconnect(error)
    }
  }

  return {
    async run(script, digest, ...args) {
      if (asking.status !== 'ready') await firstReady.promise
      const keys = [`${prefix}lease:${digest}`, `${prefix}said:${digest}`]
      try {
        const answer = await asking.eval(script, keys.length, ...keys, ...args)
        answered()
        return answer
      } catch (error) {
        report(error)
        throw error
      }
    },
    say(channel, text) {
      if (asking.status === 'ready') asking.publish(channel, text).catch(report)
    },
    listen(channel, onText, onListening) {
      const ear = { onText, onListening }
      const others = ears.get(channel)
      if (others) others.add(ear)
      else ears.set(channel, new Set([ear]))
      void subscribe(channel)
      return () => {
        const left = ears.get(channel)
        left?.delete(ear)
        if (left?.size !== 0) return
        ears.delete(channel)
        if (listening.status === 'ready') listening.unsubscribe(channel).catch(reconnect)
      }
    },
    newsChannel: (digest) => `${prefix}news:${digest}`,
    wantChannel: (digest) => `${prefix}want:${digest}`,
    close() {
      closed = true
      clearTimeout(patience)
      clearInterval(pinging)
      firstReady.resolve()
      asking.disconnect()
      listening.disconnect()
    },
  }
}
