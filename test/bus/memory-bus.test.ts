import { createMemoryBus } from '../../src/bus/memory-bus.ts'
import { createLogger } from '../../src/log.ts'
import { busContract } from '../contracts/bus.contract.ts'

busContract(async () => {
  const bus = createMemoryBus({ log: createLogger({ level: 'silent' }) })
  return { one: bus, other: bus, [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose]() }
})
