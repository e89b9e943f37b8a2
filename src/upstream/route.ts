/** Which upstream a request goes to. One answer today; a site of several cells will have more. */
import type { RepositoryName } from '../oci/reference.ts'
import type { Upstream } from './upstream.ts'

export interface RoutedRequest {
  /** Undefined for what concerns no repository: the catalog. */
  readonly name: RepositoryName | undefined
}

export type Route = (request: RoutedRequest, access: 'read' | 'write') => Upstream

export function createRoute(primary: Upstream): Route {
  return () => primary
}
