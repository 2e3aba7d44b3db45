import { cents } from './money'

export type { Cents } from './money'

export interface Order {
  id: string
  price: string
}

export function total (orders: readonly Order[]): number {
  return orders.reduce((sum, order) => sum + cents(order.price), 0)
}
