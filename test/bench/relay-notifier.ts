/**
 * Posts events to a relay as the processes of a registry do: one event a request, one request at a time and process, a
 * connection for each (facts/gitlab.md 8a).
 */
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { RELAY_SECRET } from '../support/relay.ts'

export interface NotifierOptions {
  /** Of the processes whose events these seem to be. */
  readonly instanceIds: readonly string[]
  readonly repositories: readonly string[]
  readonly tag: string
  /** What the tag is by turns. */
  readonly digests: readonly [string, string]
  /** Makes true what is told next. */
  move(repository: string, digest: string): Promise<void>
}

export interface Notifier {
  /** An event of each repository. */
  postEach(): Promise<void>
  /** Throws when any is not answered 204. When each was sent, by its id. */
  post(load: { readonly perSecond: number; readonly forMs: number }): Promise<ReadonlyMap<string, number>>
}

/** A process waits for each answer before it sends its next event; so many keep up with what a slow disk acknowledges. */
const SENDERS = 4

export function createNotifier(eventsUrl: string, options: NotifierOptions): Notifier {
  const { instanceIds, repositories, tag, digests, move } = options
  let made = 0

  async function postOne(sentAt: Map<string, number>, sender: number): Promise<void> {
    const turn = made++
    const repository = repositories[turn % repositories.length] ?? ''
    const digest = digests[Math.floor(turn / repositories.length) % 2] ?? ''
    await move(repository, digest)
    const id = randomUUID()
    const instanceId = instanceIds[sender % instanceIds.length] ?? ''
    sentAt.set(id, performance.now())
    const status = await send(
      eventsUrl,
      JSON.stringify(envelope({ id, repository, tag, digest, instanceId }), null, 3),
    )
    if (status !== 204) throw new Error(`event ${turn} was answered ${status}`)
  }

  return {
    async postEach() {
      for (let each = 0; each < repositories.length; each++) await postOne(new Map(), each)
    },
    async post({ perSecond, forMs }) {
      const sentAt = new Map<string, number>()
      const total = Math.round((perSecond * forMs) / 1000)
      const beganAtMs = performance.now()
      let taken = 0
      async function sendAll(sender: number): Promise<void> {
        while (taken < total) {
          const dueAtMs = beganAtMs + (taken++ * 1000) / perSecond
          await delay(Math.max(0, dueAtMs - performance.now()))
          await postOne(sentAt, sender)
        }
      }
      await Promise.all(Array.from({ length: SENDERS }, (_, sender) => sendAll(sender)))
      return sentAt
    },
  }
}

interface Told {
  readonly id: string
  readonly repository: string
  readonly tag: string
  readonly digest: string
  readonly instanceId: string
}

function envelope({ id, repository, tag, digest, instanceId }: Told) {
  const event = {
    id,
    timestamp: new Date().toISOString(),
    action: 'push',
    target: {
      mediaType: MEDIA_TYPES.ociManifest,
      size: 528,
      digest,
      length: 528,
      repository,
      url: `http://127.0.0.1/v2/${repository}/manifests/${digest}`,
      tag,
    },
    request: {
      id: randomUUID(),
      addr: '127.0.0.1:40000',
      host: '127.0.0.1',
      method: 'PUT',
      useragent: 'bench',
    },
    actor: { name: 'bench' },
    source: { addr: 'bench:5000', instanceID: instanceId },
  }
  return { events: [event] }
}

function send(url: string, body: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const headers = {
    authorization: RELAY_SECRET,
    'content-type': 'application/vnd.docker.distribution.events.v1+json',
    'content-length': Buffer.byteLength(body),
  }
  request(url, { method: 'POST', headers, agent: false }, (response) => {
    response.resume().on('end', () => resolve(response.statusCode ?? 0))
  })
    .on('error', reject)
    .end(body)
  return promise
}
