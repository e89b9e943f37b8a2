/**
 * The bus of a site of several processes: publish and subscribe on one Redis. A message that cannot be sent now is
 * dropped; what was sent while this process did not listen is missed, and said to be when it listens again.
 */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { askingOptions, type RedisUrl } from '../redis-connection.ts'
import type { Bus, BusMessage } from './bus.ts'
import { createListeners } from './listeners.ts'
import { decode, encode } from './wire.ts'

export interface RedisBusOptions {
  readonly url: RedisUrl
  /** `site.name`: sites that share a Redis do not hear each other. */
  readonly site: string
  /** How often an idle subscription is asked whether it is still there; default 5000. */
  readonly pingMs?: number | undefined
}

export interface RedisBusDeps {
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'busMessages'>
}

/** While Redis takes them so slowly, further messages are worth less than the memory they would hold. */
const MAX_ON_THEIR_WAY = 1000
/** At most once, and now or never. */
const AT_MOST_ONCE = { enableOfflineQueue: false, autoResendUnfulfilledCommands: false }

/** Throws when the URL is none; a Redis that is away only means that nobody is heard. */
export function createRedisBus({ log, metrics }: RedisBusDeps, options: RedisBusOptions): Bus {
  const { url, site, pingMs = 5000 } = options
  const channel = `geo-registry:${site}:bus`
  const own = randomUUID()
  const listeners = createListeners(log)
  const count = (result: string, amount = 1) => metrics.busMessages.inc({ result }, amount)
  const publisher = new Redis({ ...askingOptions(url), ...AT_MOST_ONCE })
  const subscriber = new Redis({ ...askingOptions(url), ...AT_MOST_ONCE, autoResubscribe: false })
  let onTheirWay = 0
  let closed = false
  let saidAway = false
  let isSubscribed = false

  publisher.on('error', report)
  subscriber.on('error', report)
  publisher.on('ready', back)
  subscriber.on('ready', () => void subscribe())
  subscriber.on('close', () => {
    isSubscribed = false
  })
  subscriber.on('message', (_channel: string, text: string) => receive(text))
  // A subscription says nothing by itself: without a question, one whose peer is gone would be silent for good.
  const pinging = setInterval(() => {
    if (subscriber.status === 'ready') subscriber.ping().catch(again)
  }, pingMs).unref()

  async function subscribe(): Promise<void> {
    try {
      await subscriber.subscribe(channel)
      isSubscribed = true
      back()
      listeners.tellGap()
    } catch (error) {
      again(error)
    }
  }

  function again(error: unknown): void {
    report(error)
    if (!closed && subscriber.status === 'ready') subscriber.disconnect(true)
  }

  /** Every attempt of both connections fails while Redis is away: said once. */
  function report(error: unknown): void {
    if (saidAway || closed) return
    saidAway = true
    log.warn(
      { error },
      'Redis cannot be reached: until it can, the replicator does not hear what clients of other processes do',
    )
  }

  function back(): void {
    if (!saidAway || !isSubscribed || publisher.status !== 'ready') return
    saidAway = false
    log.info('Redis answers again: the processes of this site hear each other')
  }

  function receive(text: string): void {
    const received = decode(text)
    if (typeof received === 'string') count(received)
    else if (received.from !== own) {
      count('received')
      listeners.tell(received.message)
    }
  }

  async function send(message: BusMessage): Promise<void> {
    if (publisher.status !== 'ready' || onTheirWay >= MAX_ON_THEIR_WAY) {
      count('dropped')
      return
    }
    onTheirWay += 1
    try {
      await publisher.publish(channel, encode(message, own))
      count('sent')
    } catch (error) {
      count('dropped')
      report(error)
    } finally {
      onTheirWay -= 1
    }
  }

  return {
    publish(message) {
      if (closed) return
      listeners.tell(message)
      void send(message)
    },
    on: listeners.on,
    onGap: listeners.onGap,
    async [Symbol.asyncDispose]() {
      closed = true
      clearInterval(pinging)
      publisher.disconnect()
      subscriber.disconnect()
    },
  }
}
