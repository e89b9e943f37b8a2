/** Requests of those who may not: what is asked, with which token. */
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import { mintToken, repositoryAccess, type SigningKey, signingKey } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import type { Catalogue } from './catalogue.ts'
import type { Request } from './client.ts'
import type { Door } from './doors.ts'
import { type Operation, REPOSITORIES, VAULT } from './operations.ts'

export interface Intrusion {
  readonly what: string
  /** The token is good for the path; what is asked for is not there. */
  readonly elsewhere: boolean
  readonly request: Request
}

const EXPIRED_SECONDS = 600

export async function intrude(
  { how, repository, tag, pick }: Extract<Operation, { do: 'intrude' }>,
  door: Door,
  catalogue: Catalogue,
): Promise<Intrusion> {
  const key = await signingKey()
  const api = door.stranger
  const token = async (name: string, actions: readonly string[], by: SigningKey = key, iat?: number) => {
    const times = iat === undefined ? {} : { iat, exp: iat + 300 }
    return bearer(await mintToken(by, { access: [repositoryAccess(name, actions)], sub: 'soak', ...times }))
  }
  const others = REPOSITORIES.filter((name) => name !== repository)
  const manifest = `/v2/${repository}/manifests/${catalogue.pick(repository, pick)?.digest ?? tag}`
  const asking = (
    method: string,
    path: string,
    authorization: string | undefined,
    elsewhere = false,
  ): Intrusion => ({
    what: `${how}: ${method} ${path}`,
    elsewhere,
    // With the Accept of a client: else the primary, not the site, has the say.
    request: () =>
      api.request(method, path, {
        headers: { accept: FULL_ACCEPT, ...(authorization !== undefined && { authorization }) },
      }),
  })
  switch (how) {
    case 'no token':
      return asking('GET', manifest, undefined)
    case 'expired token': {
      const iat = Math.floor(Date.now() / 1000) - EXPIRED_SECONDS
      return asking('GET', manifest, await token(repository, ['pull'], key, iat))
    }
    case 'forged token':
      return asking('GET', manifest, await token(repository, ['pull'], await signingKey({ name: 'forger' })))
    case 'other repository’s token':
      return asking('GET', manifest, await token(others[0] ?? VAULT, ['pull']))
    case 'pull token pushes':
      return asking('POST', `/v2/${repository}/blobs/uploads/`, await token(repository, ['pull']))
    case 'pull token deletes':
      return asking('DELETE', manifest, await token(repository, ['pull']))
    case 'elsewhere': {
      const path = repository === VAULT ? REPOSITORIES[0] : repository
      const secret = catalogue.pick(VAULT, pick)
      const blob = secret?.blobs.at(-1)
      const asked = blob && tag === 'v1' ? `blobs/${blob.digest}` : `manifests/${secret?.digest ?? 'none'}`
      return asking('GET', `/v2/${path}/${asked}`, await token(path, ['pull']), true)
    }
  }
}
