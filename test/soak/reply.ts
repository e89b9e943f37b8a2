/** What the model wants to know of an answer, and what a manifest names. */
import type { Span } from '../e2e/model-history.ts'
import type { Answer, DrainedAnswer, OpenAnswer } from '../support/registry-api.ts'
import type { Reply } from './model.ts'

const ERROR_WORDS = 200

/** `OpenAnswer`: of what its client left before the end. */
export type Heard = Answer | DrainedAnswer | Pick<OpenAnswer, 'status' | 'headers'>

/** Undefined: the connection broke off; `why` says how. */
export function replyOf(answer: Heard | undefined, span: Span, why: string): Reply {
  const nothing = { ...span, status: undefined, source: undefined, hasWarning: false, digest: undefined }
  if (!answer) return { ...nothing, bodyDigest: undefined, words: why }
  const { status, headers } = answer
  const said = 'body' in answer && status >= 400 ? answer.body.toString('utf8').slice(-ERROR_WORDS) : ''
  return {
    ...span,
    status,
    source: headers['geo-registry-source'],
    hasWarning: headers['warning'] !== undefined,
    digest: headers['docker-content-digest'],
    bodyDigest: 'digest' in answer ? answer.digest : undefined,
    words: said,
  }
}

export interface Parts {
  readonly manifests: readonly string[]
  readonly blobs: readonly string[]
}

/** What a manifest names. */
export function partsOf(body: Buffer): Parts {
  interface Named {
    readonly digest: string
  }
  const {
    manifests = [],
    config,
    layers = [],
  } = JSON.parse(body.toString('utf8')) as {
    readonly manifests?: readonly Named[]
    readonly config?: Named
    readonly layers?: readonly Named[]
  }
  return {
    manifests: manifests.map(({ digest }) => digest),
    blobs: [...(config ? [config] : []), ...layers].map(({ digest }) => digest),
  }
}
