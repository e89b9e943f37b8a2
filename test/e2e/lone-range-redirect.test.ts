/** Blobs that the primary redirects to object storage, which clients of a secondary site may not reach. */
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { redirect } from '../support/lies.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { sourceOf, startOneSite } from './one-site.ts'

it('a lone range is fetched from storage by the site, without the caller’s token, and no fill begins', async () => {
  await using primary = await startLyingPrimary()
  await using storage = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const image = await buildImage({ seed: 'in storage', layers: [50_000], gzip: false })
  const layer = image.blobs[1]
  if (!layer) throw new Error('an image has layers')
  const path = `/v2/team/app/blobs/${layer.digest}`
  for (const registry of [primary, storage]) await registry.hold('team/app', image)
  primary.lie('GET', path, redirect(`${storage.url}${path}?X-Amz-Signature=a%2Bb`))
  const here = await one.client({ 'team/app': ['pull'] })

  const answer = await here.request('GET', path, { headers: { range: 'bytes=100-199' } })
  const past = await here.request('GET', path, { headers: { range: `bytes=${layer.sizeBytes}-` } })

  expect([answer.status, answer.body.length, sourceOf(answer)]).toEqual([206, 100, 'primary'])
  expect(answer.headers['content-range']).toBe(`bytes 100-199/${layer.sizeBytes}`)
  expect([past.status, past.headers['content-range']]).toEqual([416, `bytes */${layer.sizeBytes}`])
  const [asked] = storage.asked('GET', path)
  expect([asked?.headers.authorization, asked?.headers.range]).toEqual([undefined, 'bytes=100-199'])
  expect(asked?.url).toBe(`${path}?X-Amz-Signature=a%2Bb`)
})
