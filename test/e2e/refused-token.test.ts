/** A token that verifies here and that the primary does not take: the client hears of this site's token service. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { ociError } from '../support/lies.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { type OneSite, REALM, startOneSite } from './one-site.ts'

const NAME = 'team/app'
let primary: LyingPrimary
let one: OneSite

beforeAll(async () => {
  primary = await startLyingPrimary()
  one = await startOneSite(primary.url)
  primary.lie(
    '*',
    /./,
    ociError(401, 'UNAUTHORIZED', { 'www-authenticate': 'Bearer realm="http://the-primarys.own/jwt/auth"' }),
  )
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

describe.each([['pull'], ['pull,push']])('a token to %s', (actions) => {
  it.each(['GET', 'HEAD'])('is challenged to %s again by this site', async (method) => {
    const image = await buildImage({ layers: [100] })
    const client = await one.client({ [NAME]: actions.split(',') })

    for (const path of ['manifests/v1', `manifests/${image.digest}`, `blobs/${image.blobs[1]?.digest}`]) {
      const answer = await client.request(method, `/v2/${NAME}/${path}`)
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([
        401,
        `Bearer realm="${REALM}",service="container_registry",scope="repository:${NAME}:pull",error="invalid_token"`,
      ])
    }
  })
})
