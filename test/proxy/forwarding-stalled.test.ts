/** Law 6: an answer of the primary that its client does not take ends at both ends. */
import { connect } from 'node:net'
import { expect, it } from 'vitest'
import { listenHttp } from '../support/http-listener.ts'
import { until } from '../support/wait.ts'
import { startWriteSite } from './write-site.ts'

const MIB = 1024 * 1024

it('hangs up on a client that takes no byte of a passed-on answer within the idle time', async () => {
  await using primary = await listenHttp((_request, response) => {
    response.writeHead(400, { 'content-length': 64 * MIB })
    response.write(Buffer.alloc(64 * MIB))
  })
  await using site = await startWriteSite(primary.url, { idleMs: 300 })
  const socket = connect(site.port, '127.0.0.1').pause()
  socket.on('error', () => undefined)
  socket.write('DELETE /v2/team/app/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n')

  const underWay = async () =>
    (await site.metrics.httpInFlight.get()).values.reduce((sum, { value }) => sum + value, 0)
  await until(async () => (await underWay()) === 1, { what: 'the request to be under way' })
  await until(async () => (await underWay()) === 0, { what: 'the request to be over', deadlineMs: 5000 })
  expect(await underWay()).toBe(0)
  socket.destroy()
})
