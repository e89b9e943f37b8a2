/** A primary that never finishes what it has to say: the client gets an answer all the same. */
import { expect, it } from 'vitest'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { startOneSite } from './one-site.ts'

it('answers 502 when an error of the primary drips and does not end', async () => {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url, { upstream: { timeouts: { head: '1s' } } })
  const client = await one.client({ 'team/app': ['pull'] })
  primary.lie('GET', /./, ({ response }) => {
    response.writeHead(404, { 'content-type': 'application/json', 'content-length': '100000' })
    const drip = setInterval(() => response.write('{'), 100).unref()
    response.once('close', () => clearInterval(drip))
  })

  // This Accept is for the primary to negotiate, so the client's own request is passed on.
  const signal = AbortSignal.timeout(10_000)
  const path = '/v2/team/app/manifests/v1'
  const answer = await client.request('GET', path, { headers: { accept: '*/*' }, signal })
  expect(answer.status).toBe(502)
})
