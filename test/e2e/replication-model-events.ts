/**
 * What lies between a registry and the site that takes its events: loses, repeats, withholds and reorders them. What it
 * answers 204 the registry takes for delivered.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { SECRET } from './replicated-site.ts'

/** `hold`: answered at once and delivered by `release`, if the site does not die of it first. */
export type Delivery = 'pass' | 'lose' | 'repeat' | 'hold'

export interface EventPost extends AsyncDisposable {
  /** Where a registry is to send its events. */
  readonly url: string
  behave(how: Delivery): void
  /** An event of our own, as a registry would send it, and subject to the same. */
  send(event: Readonly<Record<string, unknown>>): Promise<void>
  /** Delivers what was held, the last first; what the site does not take stays held. */
  release(): Promise<void>
  /** `<repository> <digest>` of every push without a tag that the site has accepted. */
  readonly accepted: ReadonlySet<string>
  readonly counts: Readonly<Record<Delivery, number>>
}

const MEDIA_TYPE = 'application/vnd.docker.distribution.events.v1+json'

export async function startEventPost(target: string): Promise<EventPost> {
  const accepted = new Set<string>()
  const held: Buffer[] = []
  const counts = { pass: 0, lose: 0, repeat: 0, hold: 0 }
  let how: Delivery = 'pass'

  async function forward(body: Buffer): Promise<number> {
    const headers = { 'content-type': MEDIA_TYPE, authorization: SECRET }
    const signal = AbortSignal.timeout(5000)
    const status = await fetch(target, { method: 'POST', body, headers, signal }).then(
      (answer) => answer.status,
      () => 503, // The site is down: whoever sent the event sends it again.
    )
    if (status === 204) for (const key of untaggedPushes(body)) accepted.add(key)
    return status
  }

  async function take(body: Buffer): Promise<number> {
    counts[how]++
    if (how === 'lose') return 204
    if (how === 'hold') {
      held.push(body)
      return 204
    }
    if (how === 'repeat') await forward(body)
    return await forward(body)
  }

  function onRequest(request: IncomingMessage, response: ServerResponse): void {
    buffer(request)
      .then(take)
      .then(
        (status) => response.writeHead(status).end(),
        () => response.destroy(), // The registry gave up on this try.
      )
  }

  const listener: HttpListener = await listenHttp(onRequest)
  return {
    url: `${listener.url}/notifications`,
    behave(next) {
      how = next
    },
    async send(event) {
      const body = Buffer.from(JSON.stringify({ events: [event] }))
      // A registry repeats what is not taken until it gives up: what a site that is down does not take is held.
      if ((await take(body)) !== 204) held.push(body)
    },
    async release() {
      for (const body of held.splice(0).reverse()) if ((await forward(body)) !== 204) held.push(body)
    },
    accepted,
    counts,
    [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
  }
}

interface Envelope {
  readonly events?: readonly {
    readonly action?: string
    readonly target?: { readonly repository?: string; readonly digest?: string; readonly tag?: string }
  }[]
}

function untaggedPushes(body: Buffer): string[] {
  const { events = [] } = JSON.parse(body.toString('utf8')) as Envelope
  return events.flatMap(({ action, target }) =>
    action === 'push' && target?.tag === undefined ? [`${target?.repository} ${target?.digest}`] : [],
  )
}
