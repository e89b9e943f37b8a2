/**
 * The one 401 of token authentication, to the letter of GitLab's registry: header and body (facts/gitlab.md 4.2). Too
 * little access is a 401 too, never a 403, so that clients fetch a better token.
 */
import { OciError } from '../oci/errors.ts'
import { type BearerChallenge, formatChallenge } from './challenge.ts'
import { formatScopes, type Scope } from './scope.ts'

/** Why a request is refused: a `TokenError`'s code, or a valid token that does not grant enough. */
export type UnauthorizedReason = 'missing' | 'invalid' | 'insufficient_scope'

export interface ChallengeSettings {
  /** `auth.token.realm`, as clients reach it. */
  readonly realm: string
  /** `auth.token.service`. */
  readonly service: string
}

/** The error to throw, with `WWW-Authenticate` and a detail of one entry for each action that was required. */
export function unauthorized(
  { realm, service }: ChallengeSettings,
  required: readonly Scope[],
  reason: UnauthorizedReason,
): OciError {
  const challenge = formatChallenge({ realm, service, scope: formatScopes(required), error: errorOf(reason) })
  const detail = required.flatMap(({ type, name, actions }) =>
    actions.map((action) => ({ Type: type, Class: '', Name: name, ProjectPath: '', Action: action })),
  )
  return new OciError('UNAUTHORIZED', {
    headers: { 'www-authenticate': challenge },
    // The registries' list is nil where nothing is required (`/v2/`), and Go writes that as null.
    detail: detail.length > 0 ? detail : null,
  })
}

function errorOf(reason: UnauthorizedReason): BearerChallenge['error'] {
  if (reason === 'missing') return undefined
  return reason === 'invalid' ? 'invalid_token' : 'insufficient_scope'
}
