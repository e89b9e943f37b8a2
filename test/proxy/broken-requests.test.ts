/** What is no HTTP gets a short word and an end; an answer that is under way is never written into. */
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { writeHead } from '../../proxy/exchange.ts'
import { signingKey } from '../support/keys.ts'
import { until } from '../support/wait.ts'
import { listen } from './listening.ts'

/** Never says that it is done sending, so only the server's own end closes it. */
function openSocket(port: number): { socket: Socket; received: () => string; isEnded: () => boolean } {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const chunks: Buffer[] = []
  let ended = false
  const end = () => {
    ended = true
  }
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', end)
  socket.once('end', end)
  return { socket, received: () => Buffer.concat(chunks).toString('latin1'), isEnded: () => ended }
}

it('cuts a body that is under way when what its client sends next is no request', async () => {
  const { promise: broken, resolve: breakIt } = Promise.withResolvers<void>()
  await using one = await listen(async (exchange) => {
    writeHead(exchange, 200, { 'content-length': '200' })
    exchange.response.write('the first half of the content')
    await broken
  })
  const { socket, received, isEnded } = openSocket(one.port)
  socket.write('GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n')
  await until(() => received().includes('first half'), { what: 'the first half' })
  socket.write('NONSENSE\r\n\r\n')
  await until(isEnded, { what: 'the connection to be cut' })
  breakIt()
  socket.destroy()

  expect(received()).not.toContain('HTTP/1.1 400')
})

it('hangs up on a client that does not speak TLS where TLS is spoken', async () => {
  const { certificatePem, privateKeyPem } = await signingKey({ name: 'tls' })
  await using one = await listen(async () => undefined, {
    tls: { cert: Buffer.from(certificatePem), key: Buffer.from(privateKeyPem) },
  })
  const { socket, isEnded } = openSocket(one.port)
  socket.write('GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n')

  await until(isEnded, { what: 'the server to hang up', deadlineMs: 3000 })
  socket.destroy()
})
