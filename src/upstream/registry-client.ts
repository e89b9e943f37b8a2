/**
 * The primary registry as `Upstream`: one method per question. Whose credential a request carries is settled here, and
 * so is what an answer may be believed to be; nothing is kept here.
 */
import type { Digest } from '../oci/digest.ts'
import { endToEndHeaders, HEADERS, type HeaderFields, headerValue } from '../oci/headers.ts'
import { FULL_ACCEPT } from '../oci/media-types.ts'
import { type Reference, type RepositoryName, referenceText } from '../oci/reference.ts'
import { type AskedBytes, arrivingBlob, contentLength } from './blob-answer.ts'
import type { Breaker } from './breaker.ts'
import type { Dispatcher, OutgoingRequest, UpstreamOperation } from './dispatcher.ts'
import { UpstreamError } from './errors.ts'
import { discard, elsewhere, refusal } from './failure.ts'
import { namedDigest, readManifest, refuseForeignForm, refuseOtherDigest } from './manifest-answer.ts'
import { follow } from './redirects.ts'
import type { TokenSource } from './token-source.ts'
import type { ArrivingBlob, AskOptions, Credential, ForwardAnswer, Upstream } from './upstream.ts'

export interface RegistryClientDeps {
  readonly dispatcher: Dispatcher
  /** The site's own credential. */
  readonly tokens: TokenSource
  /** Told of every failure, and of every tag check that was answered. */
  readonly breaker: Pick<Breaker, 'failed' | 'succeeded'>
}

/** Settled here: the host is the upstream's, the credential its own field, and no 100 is waited for. */
const SETTLED = ['host', 'authorization', 'expect']

export function createRegistryClient({ dispatcher, tokens, breaker }: RegistryClientDeps): Upstream {
  const { origin, timeouts } = dispatcher
  const { headMs } = timeouts

  /** Sends with the caller's header as it came, or with the site's own; that one is renewed once when refused. */
  async function authorized<T extends { readonly status: number }>(
    credential: Credential,
    scope: string,
    signal: AbortSignal | undefined,
    send: (authorization: string | undefined) => Promise<T>,
    dropRefused: ((answer: T) => Promise<void>) | undefined,
  ): Promise<T> {
    if (credential.kind === 'caller') return send(credential.authorization)
    const answer = await send(await tokens.authorization(scope, signal))
    if (answer.status !== 401 || !dropRefused || !tokens.refused(scope)) return answer
    await dropRefused(answer)
    return send(await tokens.authorization(scope, signal))
  }

  function question(
    operation: UpstreamOperation,
    method: 'GET' | 'HEAD',
    path: string,
    ask: AskOptions,
    headers: HeaderFields,
  ): OutgoingRequest {
    return {
      operation,
      method,
      url: origin + path,
      headers: {
        'user-agent': 'geo-registry',
        'accept-encoding': 'identity',
        [HEADERS.requestId]: ask.requestId,
        ...headers,
      },
      signal: ask.signal,
      headMs: operation === 'tag-check' ? timeouts.tagMs : headMs,
      repeatable: true,
    }
  }

  function read(name: RepositoryName, request: OutgoingRequest, ask: AskOptions): Promise<ForwardAnswer> {
    return authorized(
      ask.credential,
      `repository:${name}:pull`,
      ask.signal,
      (authorization) => dispatcher.send({ ...request, headers: { ...request.headers, authorization } }),
      (answer) => discard(answer, headMs),
    )
  }

  async function reported<T>(operation: UpstreamOperation, run: () => Promise<T>): Promise<T> {
    try {
      const result = await run()
      if (operation === 'tag-check') breaker.succeeded()
      return result
    } catch (error) {
      breaker.failed(error, operation)
      throw error
    }
  }

  async function manifest(
    operation: UpstreamOperation,
    name: RepositoryName,
    reference: Reference,
    ask: AskOptions,
    held: Digest | undefined,
  ) {
    const what = `GET of manifest ${name} ${referenceText(reference)}`
    const answer = await read(
      name,
      question(operation, 'GET', `/v2/${name}/manifests/${referenceText(reference)}`, ask, {
        accept: FULL_ACCEPT,
        'if-none-match': held && `"${held}"`,
      }),
      ask,
    )
    if (answer.status === 200) return readManifest(answer, reference, headMs)
    if (answer.status !== 304) throw await refusal(answer, { what, deadlineMs: headMs })
    await discard(answer, headMs)
    if (!held || (namedDigest(answer.headers) ?? held) !== held) {
      throw new UpstreamError('faulty', `${what}: 304 for something that is not held`, { status: 304 })
    }
    return 'not-modified' as const
  }

  async function blob(
    operation: UpstreamOperation,
    name: RepositoryName,
    digest: Digest,
    ask: AskOptions,
    asked: AskedBytes | undefined,
  ): Promise<ArrivingBlob> {
    const what = `GET of blob ${name} ${digest}`
    const range = asked && `bytes=${asked.startByte}-${asked.endByte ?? ''}`
    const request = question(operation, 'GET', `/v2/${name}/blobs/${digest}`, ask, { range })
    const { answer, foreign } = await authorizedFollow(name, request, ask)
    if (answer.status === 200 || answer.status === 206) {
      refuseForeignForm(answer)
      if (!foreign) refuseOtherDigest(answer.headers, digest)
      return arrivingBlob(answer, asked)
    }
    if (answer.status === 416 && asked?.startByte === 0) {
      await discard(answer, headMs) // No range fits an empty blob.
      return blob(operation, name, digest, ask, undefined)
    }
    throw await refusal(answer, { what, foreign, deadlineMs: headMs })
  }

  function authorizedFollow(name: RepositoryName, request: OutgoingRequest, ask: AskOptions) {
    return authorized(
      ask.credential,
      `repository:${name}:pull`,
      ask.signal,
      async (authorization) => {
        const followed = await follow(dispatcher.send, {
          ...request,
          headers: { ...request.headers, authorization },
        })
        // A 401 of a storage service is not about the credential, which it never saw.
        return { ...followed, status: followed.foreign ? 0 : followed.answer.status }
      },
      ({ answer }) => discard(answer, headMs),
    )
  }

  return {
    origin,

    getManifest(name, reference, ask) {
      const operation = ask.check ? 'tag-check' : 'manifest'
      // By digest registries answer 304 even for repositories that do not exist.
      const held = reference.kind === 'tag' ? ask.heldDigest : undefined
      return reported(operation, () => manifest(operation, name, reference, ask, held))
    },

    confirmManifest(name, digest, ask) {
      return reported('confirm', async () => {
        const request = question('confirm', 'HEAD', `/v2/${name}/manifests/${digest}`, ask, {
          accept: FULL_ACCEPT,
        })
        const answer = await read(name, request, ask)
        if (answer.status === 404) {
          await discard(answer, headMs)
          await manifest('confirm', name, { kind: 'digest', digest }, ask, undefined)
          return
        }
        await expectHead(answer, digest, `HEAD of manifest ${name} ${digest}`)
      })
    },

    confirmBlob(name, digest, ask) {
      return reported('confirm', async () => {
        const request = question('confirm', 'HEAD', `/v2/${name}/blobs/${digest}`, ask, {})
        const answer = await read(name, request, ask)
        const { status, headers } = answer
        const settles = status === 200 && contentLength(headers) !== undefined
        if (settles || (status !== 200 && status !== 404 && !isRedirect(status))) {
          await expectHead(answer, digest, `HEAD of blob ${name} ${digest}`)
          return contentLength(headers) ?? 0
        }
        await discard(answer, headMs)
        // Neither a 404 without a body nor a redirect says enough: the first byte does.
        const { body, sizeBytes } = await blob('confirm', name, digest, ask, { startByte: 0, endByte: 0 })
        body.destroy()
        return sizeBytes
      })
    },

    getBlob(name, digest, ask) {
      const { startByte = 0, endByte } = ask
      const asked = startByte > 0 || endByte !== undefined ? { startByte, endByte } : undefined
      return reported('blob', () => blob('blob', name, digest, ask, asked))
    },

    forward(ask) {
      return reported(ask.operation, async () => {
        const atHome = new URL(ask.url).origin === new URL(origin).origin
        const kept = Object.entries(endToEndHeaders(ask.headers)).filter(([key]) => !SETTLED.includes(key))
        const empty = headerValue(ask.headers, 'content-length') === '0'
        // Only what brings bytes, or takes them away, may keep a primary busy; starting an upload does neither.
        const commits = ask.operation === 'write' && (ask.method !== 'POST' || (ask.body && !empty))
        const send = (authorization: string | undefined) =>
          dispatcher.send({
            operation: ask.operation,
            method: ask.method,
            url: ask.url,
            headers: { ...Object.fromEntries(kept), authorization },
            body: empty ? undefined : ask.body,
            signal: ask.signal,
            headMs: commits ? timeouts.writeMs : headMs,
          })
        if (!atHome) {
          // Token services are configured, never named by an answer: the caller's login is meant for them.
          const login = ask.operation === 'token' && ask.credential.kind === 'caller'
          return send(login ? ask.credential.authorization : undefined).catch((error: unknown) => {
            throw elsewhere(error)
          })
        }
        // A body that has been sent cannot be sent again.
        const again = ask.body && !empty ? undefined : (answer: ForwardAnswer) => discard(answer, headMs)
        return authorized(ask.credential, ask.scope ?? '', ask.signal, send, again)
      })
    },
  }

  /** Throws unless a HEAD was answered 200 for this digest. */
  async function expectHead(answer: ForwardAnswer, digest: Digest, what: string): Promise<void> {
    if (answer.status !== 200) throw await refusal(answer, { what, deadlineMs: headMs })
    refuseForeignForm(answer)
    refuseOtherDigest(answer.headers, digest)
    await discard(answer, headMs)
  }
}

function isRedirect(status: number): boolean {
  return status >= 300 && status < 400 && status !== 304
}
